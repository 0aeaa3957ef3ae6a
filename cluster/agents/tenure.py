"""A primary's time in office on this node: its lease, its slot with the watchdog, its cgroup, and the end of all three.

The slot has a deadline before the program runs. The deadline moves only with grants for this very token, and only while
`extend` is allowed: whoever keeps the program still by an order does not ask for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from cluster.agents.place import Place
from cluster.agents.record import start_ticks_of
from cluster.fencing.cgroup import CgroupError, ProgramCgroup
from cluster.fencing.guard import Guard
from cluster.fencing.lease_file import NO_LEASE_NS, Fencing, Watched
from cluster.fencing.process_tree import ProcessTree
from cluster.leader.lease import LeaseTimes, ServingLease
from cluster.node.program import ProgramFile
from cluster.registry.values import ProgramId
from transport.clock import boottime_s
from transport.errors import KagemushaError

log = structlog.get_logger()

FENCE_S: Final = 1.0
_LOOK_S: Final = 0.002


class NoLease(KagemushaError):
    """The leader did not grant a lease in time, or there is none."""


class Tenure:
    """One for each instance. lease: None while it is no primary, or its program has ended.

    ask_lease: asks the leader now. file: reads what the program's file says of its address.
    """

    def __init__(
        self,
        place: Place,
        guard: Guard,
        times: LeaseTimes,
        ask_lease: Callable[[ProgramId, int], None],
        file: Callable[[], ProgramFile],
    ) -> None:
        self.lease: ServingLease | None = None
        self._place = place
        self._guard = guard
        self._times = times
        self._ask_lease = ask_lease
        self._file = file
        self._leased = asyncio.Event()
        self._prepared = 0
        self._is_lesser = False
        self._cgroup: ProgramCgroup | None = None
        self._returns: int | None = None
        self._asked_s: float | None = None

    @property
    def fencing(self) -> Fencing | None:
        """What the watchdog did to the program."""
        return self._guard.fencing(self._place.program)

    @property
    def is_cut_off(self) -> bool:
        """Whether the watchdog has stopped it since its clients were led back (`led_back`), be it for a moment that
        nobody saw; or that is not known."""
        return self.fencing is not None or self._guard.returns(self._place.program) != self._returns

    # ------------------------------------------------------------ lease

    def begin(self, token: int) -> ServingLease:
        """Want a lease under this token from now on."""
        self.lease, self._returns, self._asked_s = ServingLease(self._times, token), None, None
        self._ask_lease(self._place.program, token)
        return self.lease

    def adopt(self, token: int) -> None:
        """The same for a program that was without an agent: a lease that it has is kept."""
        self._returns = None
        if self.lease is None:
            self.begin(token)

    def granted(self, token: int, sent_s: float, granted_s: float) -> bool:
        """The leader grants what was asked for at `sent_s`; whether that counts."""
        if self.lease is None or not self.lease.granted(boottime_s(), token, sent_s, granted_s):
            return False
        self._leased.set()
        self._asked_s = max(self._asked_s or sent_s, sent_s)
        return True

    def extended(self, token: int, sent_s: float, seconds: int) -> bool:
        """It is agreed that the lease holds for so long from `sent_s` on; whether that counts."""
        return self.lease is not None and self.lease.extended(boottime_s(), token, sent_s, seconds)

    async def be_ready(self, lease: ServingLease, *ahead: Callable[[], Awaitable[None]]) -> None:
        """Return when the lease holds and all of that is done: both before it serves. Raises what one of them
        raised, else NoLease."""
        jobs = [job() for job in ahead]
        for failed in await asyncio.gather(*jobs, self.wait_for_lease(lease), return_exceptions=True):
            if failed is not None:
                raise failed

    async def wait_for_lease(self, lease: ServingLease) -> None:
        """Return when it holds. Raises NoLease when it is not granted in time."""
        limit_s = boottime_s() + self._times.lease_s
        while not lease.may_serve(boottime_s()):
            self._leased.clear()
            self._ask_lease(self._place.program, lease.token)
            try:
                async with asyncio.timeout(max(limit_s - boottime_s(), 0.0)):
                    await self._leased.wait()
            except TimeoutError:
                raise NoLease(
                    f"{self._place.instance} is not granted a lease", hint="is there a leader, and does it know this?"
                ) from None

    @property
    def lease_age_s(self) -> float | None:
        """Since the newest grant that counts was asked for; None: there is no lease."""
        return None if self.lease is None or self._asked_s is None else max(boottime_s() - self._asked_s, 0.0)

    @property
    def may_serve(self) -> bool:
        """Whether the lease holds, and the watchdog keeps nothing still."""
        return self.lease is not None and self.lease.may_serve(boottime_s()) and self.fencing is None

    def extend(self, pid: int) -> None:
        """Let the watchdog know how long the lease holds now, and which process it is for."""
        if self.lease is not None:
            self._watch(self.lease.token, pid, self.lease.stop_at_s)

    def open(self) -> None:
        """Have the watchdog watch, before a program runs that finds its clients by itself."""
        self.extend(0)
        self.led_back(self._guard.returns(self._place.program))

    async def thawed(self) -> int:
        """Wait until the watchdog has let the program go on, after `extend`; gives what `led_back` is to be told."""
        limit_s = time.monotonic() + FENCE_S
        while self.fencing is not None and time.monotonic() < limit_s:
            await asyncio.sleep(_LOOK_S)
        return self._guard.returns(self._place.program)

    def led_back(self, returns: int) -> None:
        """Its clients were led here since it was `thawed`."""
        self._returns = returns

    def _watch(self, token: int, pid: int, deadline_s: float) -> None:
        file, cgroup = self._file(), self.cgroup()
        directory = str(cgroup.directory) if cgroup is not None else ""
        place = self._place
        track = str(place.track) if file.redirection.driver == "keepalived" else ""
        watched = Watched(place.program, token, pid, file.address, file.interface, directory, place.instance, track)
        self._guard.watch(watched, deadline_s)

    # ------------------------------------------------------------ fence

    async def fence(self, token: int, pid: int, start_ticks: int) -> bool:
        """Have the watchdog stop the program; whether it was read back that address and process are still (or gone)."""
        if self._place.program not in self._guard.programs:
            self._watch(token, pid, NO_LEASE_NS)
        answer = await self._guard.fence(self._place.program, FENCE_S)
        if answer is None or not answer.address_gone:
            return False
        return answer.frozen or pid == 0 or start_ticks_of(pid) != start_ticks

    async def unwatch(self) -> None:
        """Nobody is watched here any more; what is frozen stays so."""
        await self._guard.unwatch(self._place.program)

    # ------------------------------------------------------------ processes

    def cgroup(self) -> ProgramCgroup | None:
        """The program's cgroup, made if need be; None where there is no freezer: then the fence is a lesser one."""
        # Asked for with each grant of a lease, also on a node that has no memory left to read its mounts.
        if self._cgroup is not None and self._cgroup.directory.exists():
            return self._cgroup
        try:
            self._cgroup = ProgramCgroup.create(self._place.cgroup)
            return self._cgroup
        except CgroupError as error:
            if not self._is_lesser:
                log.warning("no cgroup: a lesser fence", instance=self._place.instance, reason=error.what)
            self._is_lesser = True
            return None

    def prepare(self, pid: int) -> None:
        """Do ahead of a takeover what takes long: the kernel moves a process to its cgroup within many milliseconds."""
        if pid in (0, self._prepared):
            return
        self._prepared = pid
        try:
            self._file()
            self.gather(pid)
        except KagemushaError as error:
            log.warning("a mirror is not prepared", instance=self._place.instance, reason=error.what)

    def gather(self, pid: int) -> None:
        """Move the program into its cgroup, with all of its processes, and let them run there."""
        cgroup = self.cgroup()
        if cgroup is not None:
            cgroup.thaw()
            if pid:
                cgroup.add(pid)

    def thaw(self, pid: int, start_ticks: int) -> None:
        """Let the processes go on; only for what somebody else keeps still."""
        processes = self._processes(pid, start_ticks)
        if processes is not None:
            processes.thaw()

    def kill(self, pid: int, start_ticks: int) -> None:
        """End all processes of the program, frozen or not."""
        processes = self._processes(pid, start_ticks)
        if processes is not None:
            processes.kill()

    def _processes(self, pid: int, start_ticks: int) -> ProgramCgroup | ProcessTree | None:
        """All of the program's; without a cgroup those of the process that was started then, if it is there."""
        cgroup = self.cgroup()
        if cgroup is not None:
            return cgroup
        return ProcessTree(pid) if pid and start_ticks_of(pid) == start_ticks else None
