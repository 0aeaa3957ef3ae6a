"""The daemon's side of fencing: who is watched until when, and a watchdog that is always there.

The watchdog outlives the daemon, which finds it again by the lock that it holds. One that dies is started again at
once; until that has succeeded, `is_watched` is False, no program may be given a lease here, and the daemon itself stops
those whose leases end. The kernel is told of every lease, too: should watchdog and daemon come late, nobody is served
meanwhile (`kernel_lease`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from cluster.fencing.hands import Hands
from cluster.fencing.kernel_lease import KernelLeases
from cluster.fencing.lease_file import NO_LEASE_NS, SLOTS, Fencing, LeaseFile, Watched
from cluster.fencing.watchdog import WAKE, Watchdog
from cluster.node.spawn import reap, spawn
from transport.clock import boottime_ns
from transport.errors import KagemushaError

log = structlog.get_logger()

START_S: Final = 30.0
AGAIN_S: Final = 0.5
TURN_S: Final = 1.0
_LOOK_S: Final = 0.001


class Guard:
    """All methods belong to the event loop.

    command: starts a watchdog of the file at `path` (the path is added as the last word). log_file: where it complains.
    ordered: how often it stopped a program that ran because it was told to, by program.
    """

    def __init__(self, path: Path, command: Sequence[str], log_file: Path) -> None:
        self._leases = LeaseFile(path)
        self._path = path
        self._command = [*command, str(path)]
        self._log_file = log_file
        self.ordered: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        self._kernel = _kernel_leases()
        self._untold: set[str] = set()
        """Programs of which it could not be told: that is said once."""
        self._child = 0
        self._pidfd = -1
        self._closing = False
        self._restart: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See what a daemon before this one had watched, and have a watchdog.

        Raises KagemushaError when none can be started.
        """
        for slot in range(SLOTS):
            try:
                watched = self._leases.watched(slot)
            except BlockingIOError:
                self._leases.clear(slot)
                continue
            if watched is not None:
                self._slots[watched.program] = slot
        await self._have_watchdog()

    def close(self) -> None:
        """Leave the watchdog, and what it watches, as they are."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        self._forget_pidfd()
        self._leases.close()
        if self._kernel is not None:
            self._kernel.close()

    @property
    def is_watched(self) -> bool:
        """Whether there is a watchdog."""
        return self._pidfd >= 0

    @property
    def programs(self) -> frozenset[str]:
        """Who is watched now."""
        return frozenset(self._slots)

    def watch(self, watched: Watched, deadline_s: float) -> None:
        """Watch a primary, whose lease holds until `deadline_s` (CLOCK_BOOTTIME).

        Raises KagemushaError when there are too many.
        """
        slot = self._slots.get(watched.program)
        if slot is None:
            slot = next((one for one in range(SLOTS) if one not in self._slots.values()), None)
            if slot is None:
                raise KagemushaError(f"{watched.program}: {SLOTS} programs are watched already on this node")
            self._slots[watched.program] = slot
        elif (old := self._leases.watched(slot)) is not None and old.token != watched.token:
            # The lease of one must never be seen with the token of another.
            self._leases.clear(slot)
        self._leases.extend(slot, int(deadline_s * 1e9))
        self._leases.put(slot, watched)
        self._tell_kernel(watched, deadline_s)

    def extend(self, program: str, deadline_s: float) -> None:
        """Its lease holds until then (CLOCK_BOOTTIME). A program that the watchdog stopped goes on."""
        was_out = self._leases.deadline_ns(self._slots[program]) <= boottime_ns()
        self._leases.extend(self._slots[program], int(deadline_s * 1e9))
        self._tell_kernel(self._leases.watched(self._slots[program]), deadline_s)
        if was_out:
            self._wake()

    def fencing(self, program: str) -> Fencing | None:
        """What the watchdog says of it: that it was stopped, and how far that is certain."""
        slot = self._slots.get(program)
        return self._leases.fencing(slot) if slot is not None else None

    def returns(self, program: str) -> int:
        """How often the watchdog has stopped it and let it go on again. A stop may be too short to be seen by
        `fencing`, and leaves the program cut off from its clients all the same."""
        slot = self._slots.get(program)
        return self._leases.returns(slot) if slot is not None else 0

    def lease_ended(self, program: str) -> bool:
        """Whether the watchdog keeps it still because its lease ended, and nobody has ordered it."""
        slot = self._slots.get(program)
        if slot is None or self._leases.fencing(slot) is None:
            return False
        return self._leases.deadline_ns(slot) != NO_LEASE_NS

    async def fence(self, program: str, limit_s: float) -> Fencing | None:
        """Stop it at once; gives what the watchdog says when it has, None if it does not within `limit_s` seconds."""
        slot = self._slots[program]
        was_stopped = self._leases.fencing(slot) is not None
        self._leases.extend(slot, NO_LEASE_NS)
        self._tell_kernel(self._leases.watched(slot), NO_LEASE_NS)
        answer = await self._answered(slot, limit_s)
        if answer is not None and not was_stopped:
            self.ordered[program] = self.ordered.get(program, 0) + 1
        return answer

    async def unwatch(self, program: str) -> None:
        """Stop to watch: what becomes of it now is somebody else's affair. Returns when the watchdog knows."""
        slot = self._slots.pop(program, None)
        if slot is None:
            return
        watched = self._leases.watched(slot)
        self._leases.clear(slot)
        now_ns = boottime_ns()
        self._wake()
        limit_s = time.monotonic() + TURN_S
        while self._leases.beat_ns <= now_ns and self.is_watched and time.monotonic() < limit_s:
            await asyncio.sleep(_LOOK_S)
        if self._kernel is not None and watched is not None and watched.instance and program not in self._slots:
            try:
                self._kernel.forget(watched.instance)
            except KagemushaError as error:
                log.warning("a lease is left in the kernel", program=program, reason=error.what)

    def _tell_kernel(self, watched: Watched | None, until_s: float) -> None:
        if self._kernel is None or watched is None:
            return
        try:
            self._kernel.hold(watched, until_s)
        except KagemushaError as error:
            if watched.program not in self._untold:
                log.warning("the watchdog alone ends a lease", program=watched.program, reason=error.what)
            self._untold.add(watched.program)

    async def _answered(self, slot: int, limit_s: float) -> Fencing | None:
        limit_s += time.monotonic()
        self._wake()
        while time.monotonic() < limit_s:
            watched, answer = self._leases.watched(slot), self._leases.fencing(slot)
            if watched is not None and answer is not None and answer.token == watched.token:
                return answer
            await asyncio.sleep(_LOOK_S)
        return None

    def _wake(self) -> None:
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, WAKE)
            except ProcessLookupError:
                pass

    # ------------------------------------------------------------ the process

    async def _have_watchdog(self) -> None:
        if not self._is_locked():
            started_ns = boottime_ns()
            self._child = spawn(self._command, self._log_file, os.environ)
            await self._until_it_looks(started_ns)
        self._watch_process()

    async def _until_it_looks(self, started_ns: int) -> None:
        limit_s = time.monotonic() + START_S
        while self._leases.beat_ns <= started_ns or not self._is_locked():
            # One that ends because another was faster, that of a unit of its own, has done no harm.
            ended = reap(self._child) is not None and not self._is_locked()
            if ended or time.monotonic() > limit_s:
                what = f"the watchdog {'ends at once' if ended else f'does nothing within {START_S:g} s'}"
                raise KagemushaError(what, hint=f"see {self._log_file}")
            await asyncio.sleep(_LOOK_S)

    def _watch_process(self) -> None:
        pid = self._leases.watchdog_pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            raise KagemushaError("the watchdog is gone again", hint=f"see {self._log_file}") from None
        asyncio.get_running_loop().add_reader(self._pidfd, self._watchdog_ended)

    def _watchdog_ended(self) -> None:
        self._forget_pidfd()
        if self._child:
            reap(self._child)
        if not self._closing:
            log.error("the watchdog has ended; another one is started")
            self._restart = asyncio.create_task(self._again())

    async def _again(self) -> None:
        standing_in = asyncio.create_task(self._stand_in())
        try:
            while not self._closing and not self.is_watched:
                try:
                    await self._have_watchdog()
                except KagemushaError as error:
                    log.error("no watchdog: no program may serve on this node", reason=error.what, hint=error.hint)
                    await asyncio.sleep(AGAIN_S)
        finally:
            standing_in.cancel()

    async def _stand_in(self) -> None:
        """Until there is a watchdog again, do its work: no lease is asked for meanwhile, so every one ends soon."""
        hands = Hands()
        watchdog = Watchdog(self._leases, hands, boottime_ns, lambda line: log.warning(line))
        try:
            while True:
                await asyncio.sleep(watchdog.turn())
        finally:
            hands.close()

    def _forget_pidfd(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _is_locked(self) -> bool:
        """Whether a watchdog holds the lock."""
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def _kernel_leases() -> KernelLeases | None:
    """None: there is no nftables, or not for this process."""
    try:
        return KernelLeases()
    except KagemushaError as error:
        log.warning("the watchdog alone ends leases", reason=error.what)
        return None
