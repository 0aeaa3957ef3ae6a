"""A mirrored context made visible: what there is in it and where, never what is in it. Pure.

It is made of the records of the last checkpoint (`agent.context_view`), so it is the same on a primary and on a mirror
that holds the same version. Lists are cut at the limits below; `omitted` counts what was left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from transport.checkpoint import Version

CONTEXT_BYTES_MAX: Final = 4 << 20
THREADS_MAX: Final = 256
FRAMES_MAX: Final = 32
"""Of one thread's stack trace."""
DESCRIPTORS_MAX: Final = 2048
CONNECTIONS_MAX: Final = 2048
MAPPINGS_MAX: Final = 2048
TEXT_CHARS_MAX: Final = 200
"""Longer paths and names are cut in the middle."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address, and what is mapped there. mapping: path of a file, "[stack]", "[heap]", ..., "" for plain memory or
    none. offset: in bytes, into the file, else into the mapping."""

    address: int
    mapping: str
    offset: int


@dataclass(frozen=True, slots=True)
class ThreadView:
    """One thread. tid: in the program's own PID namespace. system_call: its number while the thread is in one.

    frames: where the functions that are under way will return to, the innermost first, as far as frame pointers lead.
    blocked, pending: signal numbers.
    """

    tid: int
    name: str
    program_counter: Place
    stack_pointer: int
    system_call: int | None
    frames: tuple[Place, ...]
    blocked: tuple[int, ...]
    pending: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HandlerView:
    """What the program has set for a signal other than the default. handler: None where it ignores the signal."""

    signal: int
    name: str
    handler: Place | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DescriptorView:
    """One open file description. numbers: the descriptors that share it. what: a path, an address, a counter ..."""

    numbers: tuple[int, ...]
    kind: str
    what: str


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One TCP socket. local, peer: `host:port`, peer "" while it listens. *_bytes: waiting in its queues."""

    descriptor: int
    state: Literal["unconnected", "listening", "connected", "half-closed"]
    local: str
    peer: str
    send_bytes: int
    receive_bytes: int


@dataclass(frozen=True, slots=True)
class MappingView:
    """One mapping of memory, [start, end). permissions: as in /proc/PID/maps (proc_pid_maps(5))."""

    start: int
    end: int
    permissions: str
    kind: str
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Context:
    """The schema of the context of `version`, as one instance holds it.

    pid: of the program in its own PID namespace. omitted: name of a list -> how many of it are not in it.
    """

    program: str
    instance: str
    version: Version
    executable: str
    directory: str
    pid: int
    threads: tuple[ThreadView, ...]
    handlers: tuple[HandlerView, ...]
    descriptors: tuple[DescriptorView, ...]
    connections: tuple[ConnectionView, ...]
    mappings: tuple[MappingView, ...]
    omitted: dict[str, int]
