"""Namespaces (namespaces(7)): entering them, and the clocks of a time namespace (time_namespaces(7))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.errors import KernelError
from agent.kernel.clone import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME
from agent.kernel.libc import NR, call

NETWORK, MOUNT, PID, TIME = CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME

_SECOND_NS = 1_000_000_000


def setns(descriptor: int, kinds: int) -> None:
    """Move this thread into the namespace that `descriptor` stands for, or, for a pidfd, into those of its process
    that `kinds` names.

    PID: only children made afterwards are inside. TIME: needs a process with a single thread.
    """
    call(NR.SETNS, descriptor, kinds, operation="setns", target=f"namespaces {kinds:#x}")


def unshare(kinds: int) -> None:
    """Give this thread new namespaces (TIME and PID: its future children)."""
    call(NR.UNSHARE, kinds, operation="unshare", target=f"namespaces {kinds:#x}")


@contextmanager
def in_network_namespace(descriptor: int | None) -> Iterator[None]:
    """This thread works inside the network namespace of `descriptor` within the block; None: it stays where it is."""
    if descriptor is None:
        yield
        return
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(descriptor, NETWORK)
        try:
            yield
        finally:
            setns(own, NETWORK)
    finally:
        os.close(own)


@contextmanager
def children_in_pid_namespace(pidfd: int) -> Iterator[None]:
    """Children that this thread makes within the block are born in the PID namespace of `pidfd`'s process."""
    own = os.pidfd_open(os.getpid())
    try:
        setns(pidfd, PID)
        try:
            yield
        finally:
            setns(own, PID)
    finally:
        os.close(own)


@dataclass(frozen=True, slots=True)
class TimeOffsets:
    """By how much a time namespace's clocks are ahead of the machine's own (initial) ones, in nanoseconds."""

    monotonic_ns: int = 0
    boottime_ns: int = 0

    def __add__(self, other: TimeOffsets) -> TimeOffsets:
        return TimeOffsets(self.monotonic_ns + other.monotonic_ns, self.boottime_ns + other.boottime_ns)

    def encode(self) -> str:
        """The two lines for /proc/PID/timens_offsets; nanoseconds are never negative there."""
        lines = []
        for name, offset_ns in (("monotonic", self.monotonic_ns), ("boottime", self.boottime_ns)):
            seconds, nanoseconds = divmod(offset_ns, _SECOND_NS)
            lines.append(f"{name} {seconds} {nanoseconds}\n")
        return "".join(lines)

    @classmethod
    def decode(cls, text: str) -> TimeOffsets:
        """Read /proc/PID/timens_offsets; lines of unknown clocks are passed over."""
        found = {
            name: int(seconds) * _SECOND_NS + int(nanoseconds)
            for name, seconds, nanoseconds in map(str.split, text.splitlines())
        }
        return cls(found.get("monotonic", 0), found.get("boottime", 0))


def time_offsets(pid: int | str = "self") -> TimeOffsets:
    """The offsets of the time namespace that children of `pid` are born into: its own, unless it has just unshared
    TIME."""
    try:
        with open(f"/proc/{pid}/timens_offsets", encoding="ascii") as file:
            return TimeOffsets.decode(file.read())
    except OSError as error:
        raise KernelError("read of timens_offsets", f"process {pid}", error.errno or 0) from error


def set_time_offsets(offsets: TimeOffsets) -> None:
    """Set the clocks of the time namespace that this process has just unshared; before anybody enters it. Offsets
    count from the machine's own clocks."""
    try:
        with open("/proc/self/timens_offsets", "w", encoding="ascii") as file:
            file.write(offsets.encode())
    except OSError as error:
        hint = "a clock must not become negative, nor reach half of KTIME_MAX (146 years)"
        raise KernelError("write of timens_offsets", f"{offsets}", error.errno or 0, hint=hint) from error
