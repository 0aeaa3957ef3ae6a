"""The watchdog: its own small process, which stops this node's primaries when their leases end. No asyncio.

It knows nothing but the file of leases. A primary whose deadline passes is cut off from its clients first (`hands`),
then all of its processes are frozen, and both are read back. It is cut off again at every turn: keepalived may put an
address back, a firewall that is loaded anew lose the barrier. Nothing is lost but time if the lease comes back: then
the daemon writes a later deadline for the same token, and the program is thawed. The daemon may hang or be gone: the
deadline passes.

It outlives the daemon. It sleeps in sigtimedwait(2): SIGUSR1 says that a deadline was brought forward.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cluster.fencing.cgroup import ProgramCgroup
from cluster.fencing.hands import Hands
from cluster.fencing.lease_file import SLOTS, Fencing, LeaseFile, Watched
from cluster.fencing.process_tree import ProcessTree
from transport.clock import boottime_ns
from transport.errors import ConfigError, KagemushaError

LOOK_S: Final = 0.05
"""A slot that is new is seen within this time; no deadline is nearer than a lease when it is written."""
FREEZE_S: Final = 0.1
"""Freezing is confirmed within this time, or looked at again at the next turn."""
WAKE: Final = signal.SIGUSR1


class CutsOff(Protocol):
    """What the watchdog does to the world."""

    def cut_off(self, watched: Watched) -> None:
        """See `hands.Hands`."""


@dataclass(slots=True)
class Stopped:
    """A primary that the watchdog has stopped. cut_off_ns: when it was cut off first."""

    watched: Watched
    address_gone: bool = False
    frozen: bool = False
    trouble: str = ""
    cut_off_ns: int = 0


@dataclass(slots=True)
class Watchdog:
    """Looks at all slots, again and again. now_ns: CLOCK_BOOTTIME. complain: says what went wrong."""

    leases: LeaseFile
    hands: CutsOff
    now_ns: Callable[[], int]
    complain: Callable[[str], None]
    known: dict[int, Watched] = field(default_factory=dict)
    stopped: dict[int, Stopped] = field(default_factory=dict)

    def turn(self) -> float:
        """Do what is due; return for how many seconds nothing will be."""
        due: list[int] = []
        nearest_ns = self.now_ns() + int(LOOK_S * 1e9)
        for slot in range(SLOTS):
            if not self._look(slot):
                continue
            deadline_ns = self.leases.deadline_ns(slot)
            if deadline_ns <= self.now_ns():
                due.append(slot)
            else:
                nearest_ns = min(nearest_ns, deadline_ns)
                if slot in self.stopped:
                    self._let_go_on(slot)
        # All addresses before any process: to cut one off takes microseconds, to freeze a busy program milliseconds.
        for slot in due:
            self._cut_off(slot)
        for slot in due:
            self._freeze(slot)
        return max(nearest_ns - self.now_ns(), 0) / 1e9

    def _look(self, slot: int) -> bool:
        """Read a slot; whether there is somebody to watch in it."""
        try:
            watched = self.leases.watched(slot)
        except BlockingIOError:
            return slot in self.known
        if watched is None:
            self.known.pop(slot, None)
            if self.stopped.pop(slot, None) is not None:
                self.leases.answer(slot, None)
            return False
        if watched != self.known.get(slot):
            self.known[slot] = watched
            old = self.stopped.get(slot)
            if old is not None and old.watched.token != watched.token:
                # Another primary: what became of the one before is settled.
                del self.stopped[slot]
                self.leases.answer(slot, None)
        return True

    def _cut_off(self, slot: int) -> None:
        watched = self.known[slot]
        stopped = self.stopped.setdefault(slot, Stopped(watched))
        try:
            self.hands.cut_off(watched)
            stopped.address_gone, trouble = True, ""
            stopped.cut_off_ns = stopped.cut_off_ns or self.now_ns()
        except KagemushaError as error:
            stopped.address_gone, trouble = False, error.what
        if trouble and trouble != stopped.trouble:
            self.complain(f"{watched.program}: {trouble}")
        stopped.trouble = trouble

    def _freeze(self, slot: int) -> None:
        watched, stopped = self.known[slot], self.stopped[slot]
        if not (stopped.frozen and stopped.watched == watched):
            self._freeze_anew(watched, stopped)
        told, now = self.leases.fencing(slot), self.now_ns()
        if told is None or (told.token, told.address_gone, told.frozen) != (
            watched.token,
            stopped.address_gone,
            stopped.frozen,
        ):
            self.leases.answer(slot, Fencing(watched.token, stopped.address_gone, stopped.frozen, now))
            deadline_ns = self.leases.deadline_ns(slot)
            why = f"its lease ended {(now - deadline_ns) // 1000} us ago" if deadline_ns else "it is fenced"
            cut_off = f"cut off {(now - stopped.cut_off_ns) // 1000} us ago" if stopped.address_gone else "not cut off"
            self.complain(f"{watched.program}: {why}, {cut_off}, {'frozen' if stopped.frozen else 'not frozen'}")

    def _freeze_anew(self, watched: Watched, stopped: Stopped) -> None:
        stopped.watched = watched
        freezer = _freezer(watched)
        if freezer is None:
            return
        try:
            freezer.freeze()
            stopped.frozen = freezer.await_frozen(time.monotonic() + FREEZE_S)
        except KagemushaError as error:
            self.complain(f"{watched.program}: {error}")

    def _let_go_on(self, slot: int) -> None:
        watched, stopped = self.known[slot], self.stopped[slot]
        freezer = _freezer(watched)
        try:
            if freezer is not None:
                freezer.thaw()
        except KagemushaError as error:
            if error.what != stopped.trouble:
                self.complain(f"{watched.program}: {error}")
            stopped.trouble = error.what
            return
        del self.stopped[slot]
        self.leases.let_go_on(slot)
        self.complain(f"{watched.program}: its lease is back: it goes on")


def _freezer(watched: Watched) -> ProgramCgroup | ProcessTree | None:
    """What stops the program; None where nothing runs."""
    if watched.cgroup:
        return ProgramCgroup(Path(watched.cgroup))
    return ProcessTree(watched.pid) if watched.pid else None


def lock(leases: Path) -> int:
    """Be the only watchdog of these leases. Raises ConfigError when there is one; the lock ends with the process."""
    descriptor = os.open(leases.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"{leases}: another watchdog watches these leases") from None
    return descriptor


def wait_for_lock(leases: Path, alive: Callable[[], None]) -> int | None:
    """The lock, as soon as no other watchdog has it; None: SIGTERM came before."""
    while True:
        try:
            return lock(leases)
        except ConfigError:
            alive()
        told = signal.sigtimedwait({signal.SIGTERM}, LOOK_S)
        if told is not None:
            return None


def watch(
    leases: Path,
    complain: Callable[[str], None],
    harden: Callable[[], None],
    alive: Callable[[], None] = lambda: None,
    *,
    stand_by: bool = False,
) -> None:
    """Watch until SIGTERM, which leaves everything as it is.

    harden: makes this process real-time and its memory locked, where that is allowed. alive: called at every turn.
    stand_by: while there is another watchdog, wait for its end. Raises ConfigError.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    held = wait_for_lock(leases, alive) if stand_by else lock(leases)
    if held is None:
        return
    watchdog = Watchdog(LeaseFile(leases), Hands(), boottime_ns, complain)
    watchdog.turn()
    watchdog.leases.beat(watchdog.now_ns())
    gc.collect()
    gc.disable()
    harden()
    while True:
        wait_s = watchdog.turn()
        watchdog.leases.beat(watchdog.now_ns())
        alive()
        told = signal.sigtimedwait({WAKE, signal.SIGTERM}, wait_s)
        if told is not None and told.si_signo == signal.SIGTERM:
            os.close(held)
            return
