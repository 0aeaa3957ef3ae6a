"""The watchdog: its own small process, which stops this node's primaries when their leases end. No asyncio.

It knows nothing but the file of leases. A primary whose deadline passes loses its address first, then all of its
processes are frozen, and both are read back; nothing is lost but time if the lease comes back: then the daemon writes a
later deadline for the same token, and the program is thawed. The daemon may hang or be gone: the deadline passes.

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

from cluster.fencing.address_drop import AddressDropper
from cluster.fencing.cgroup import CgroupError, ProgramCgroup
from cluster.fencing.lease_file import SLOTS, Fencing, LeaseFile, Watched
from transport.errors import ConfigError, KagemushaError

LOOK_S: Final = 0.05
"""A slot that is new is seen within this time; no deadline is nearer than a lease when it is written."""
FREEZE_S: Final = 0.1
"""Freezing is confirmed within this time, or looked at again at the next turn."""
WAKE: Final = signal.SIGUSR1


class Hands(Protocol):
    """What the watchdog does to the world."""

    def drop(self, address: str, interface: str) -> None:
        """Take the address off; returns when it is not there. Raises KagemushaError."""


@dataclass(slots=True)
class Stopped:
    """A primary that the watchdog has stopped."""

    watched: Watched
    address_gone: bool = False
    frozen: bool = False


@dataclass(slots=True)
class Watchdog:
    """Looks at all slots, again and again. now_ns: CLOCK_BOOTTIME. complain: says what went wrong."""

    leases: LeaseFile
    hands: Hands
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
        # All addresses before any process: to drop one takes microseconds, to freeze a busy program milliseconds.
        for slot in due:
            self._drop(slot)
        for slot in due:
            self._freeze(slot)
        self.leases.beat(self.now_ns())
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

    def _drop(self, slot: int) -> None:
        watched = self.known[slot]
        stopped = self.stopped.setdefault(slot, Stopped(watched))
        if stopped.address_gone:
            return
        try:
            if watched.address:
                self.hands.drop(watched.address, watched.interface)
            stopped.address_gone = True
        except KagemushaError as error:
            self.complain(f"{watched.program}: {error.what}")

    def _freeze(self, slot: int) -> None:
        watched, stopped = self.known[slot], self.stopped[slot]
        if stopped.frozen and stopped.watched == watched:
            return
        stopped.watched = watched
        try:
            if watched.cgroup:
                cgroup = ProgramCgroup(Path(watched.cgroup))
                cgroup.freeze()
                stopped.frozen = cgroup.await_frozen(time.monotonic() + FREEZE_S)
            elif watched.pid:
                # The lesser fence: it takes longer, can be undone by anybody, and can't be read back for certain.
                os.kill(watched.pid, signal.SIGSTOP)
        except (CgroupError, ProcessLookupError) as error:
            self.complain(f"{watched.program}: {error}")
        self.leases.answer(slot, Fencing(watched.token, stopped.address_gone, stopped.frozen, self.now_ns()))
        self.complain(f"{watched.program}: its lease has ended: stopped, frozen={stopped.frozen}")

    def _let_go_on(self, slot: int) -> None:
        watched = self.known[slot]
        del self.stopped[slot]
        try:
            if watched.cgroup:
                ProgramCgroup(Path(watched.cgroup)).thaw()
            elif watched.pid:
                os.kill(watched.pid, signal.SIGCONT)
        except (CgroupError, ProcessLookupError) as error:
            self.complain(f"{watched.program}: {error}")
        self.leases.answer(slot, None)
        self.complain(f"{watched.program}: its lease is back: it goes on")


def lock(leases: Path) -> int:
    """Be the only watchdog of these leases. Raises ConfigError when there is one; the lock ends with the process."""
    descriptor = os.open(leases.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"{leases}: another watchdog watches these leases") from None
    return descriptor


def watch(leases: Path, complain: Callable[[str], None], harden: Callable[[], None]) -> None:
    """Watch until SIGTERM, which leaves everything as it is.

    harden: makes this process real-time and its memory locked, where that is allowed. Raises ConfigError.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    held = lock(leases)
    watchdog = Watchdog(
        LeaseFile(leases), AddressDropper(), lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME), complain
    )
    watchdog.turn()
    gc.collect()
    gc.disable()
    harden()
    while True:
        told = signal.sigtimedwait({WAKE, signal.SIGTERM}, watchdog.turn())
        if told is not None and told.si_signo == signal.SIGTERM:
            os.close(held)
            return
