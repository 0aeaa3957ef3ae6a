"""What of a running program can't be mirrored, found by reading /proc: nothing is stopped or changed."""

from __future__ import annotations

import os
from dataclasses import dataclass

from agent.errors import KernelError, TraceeGone
from agent.executable import read_library
from agent.kernel import procfs
from agent.reason import Reason
from transport.errors import PreflightError

_SECCOMP_MODES = {1: "strict", 2: "a filter"}
_DEVICES_FINE = ("/dev/zero", "/dev/null", "/dev/shm/")
_MAPPING_KINDS = {
    "anon_inode:[io_uring]": ("io_uring", "start the program without io_uring (most have an option for it)"),
    "/[aio]": ("kernel asynchronous I/O (io_setup)", "start the program without native asynchronous I/O"),
    "/secretmem": ("secret memory (memfd_secret), which nobody else can read", "start the program without it"),
    "/anon_hugepage": ("huge pages from the reserved pool", "start the program without MAP_HUGETLB"),
    "/SYSV": ("System V shared memory", "start the program with POSIX or anonymous shared memory instead"),
}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found. refusals: what can't be mirrored. notes: what will be missing after a takeover."""

    refusals: list[Reason]
    notes: list[Reason]


def require_process(pid: int) -> None:
    """Raise PreflightError unless there is a process `pid`."""
    if not os.path.isdir(f"/proc/{pid}"):
        raise PreflightError(f"there is no process {pid}", hint="give the pid of the running program")


def inspect_process(pid: int) -> Inspection:
    """Look at the process `pid` as a whole: tracer, word size, seccomp, children, mappings.

    Raises PreflightError where there is no such process, or it can't be looked at.
    """
    where = f"process {pid}"
    try:
        status = procfs.status(pid)
        refusals = [*_tracer(where, status), *_word_size(where, pid), *_seccomp(where, status)]
        refusals += mapping_reasons(where, procfs.mappings(pid))
        return Inspection(refusals, [*_children(where, pid), *_replaced_files(where, pid)])
    except TraceeGone as error:
        raise PreflightError(f"there is no process {pid}", hint="give the pid of the running program") from error
    except KernelError as error:
        raise PreflightError(f"{where} can't be looked at: {error.what}", hint="run it as root") from error


def mapped_files(pid: int) -> list[str]:
    """The paths of all regular files that the process has mapped privately: code, libraries, read-only data. Sorted.

    Raises PreflightError where there is no such process.
    """
    try:
        names = {mapping.name for mapping in procfs.mappings(pid) if mapping.inode and not mapping.shared}
    except TraceeGone as error:
        raise PreflightError(f"there is no process {pid}", hint="give the pid of the running program") from error
    return sorted(name for name in names if name.startswith("/") and os.path.isfile(name))


def _tracer(where: str, status: procfs.Status) -> list[Reason]:
    if not status.tracer:
        return []
    try:
        tracer = f"{status.tracer} ({procfs.status(status.tracer).name})"
    except TraceeGone:
        tracer = str(status.tracer)
    return [Reason(f"is already traced, by process {tracer}", where, "stop the debugger, strace or other agent")]


def _word_size(where: str, pid: int) -> list[Reason]:
    executable = read_library(procfs.path_of(pid, "exe"))
    if executable.is_x86_64:
        return []
    return [Reason(f"is a {executable.bits}-bit program", where, "use the 64-bit (x86_64) build of it")]


def _seccomp(where: str, status: procfs.Status) -> list[Reason]:
    if not status.seccomp:
        return []
    mode = _SECCOMP_MODES.get(status.seccomp, str(status.seccomp))
    return [Reason(f"has seccomp ({mode}), which would be missing on a mirror", where, "start the program without it")]


def _children(where: str, pid: int) -> list[Reason]:
    count = len(procfs.children(pid))
    if not count:
        return []
    noun = "child process" if count == 1 else "child processes"
    return [
        Reason(
            f"has {count} {noun}: not mirrored yet; after a takeover the program sees them gone",
            where,
            "configure the program to work in one process, if losing them matters",
        )
    ]


def mapping_reasons(where: str, mappings: list[procfs.Mapping]) -> list[Reason]:
    """What is mapped and can't be mirrored, each kind once."""
    found = {}
    for mapping in mappings:
        for start, (what, remedy) in _MAPPING_KINDS.items():
            if mapping.name.startswith(start):
                found[start] = Reason(f"has mapped {what}", where, remedy)
        if mapping.name.startswith("/dev/") and not mapping.name.startswith(_DEVICES_FINE):
            what = f"has mapped the device {mapping.name}"
            found[mapping.name] = Reason(what, where, "start the program without that device")
    return list(found.values())


def _replaced_files(where: str, pid: int) -> list[Reason]:
    """Code whose file was replaced since it was mapped: a mirror would map the new one."""
    names = {mapping.name for mapping in procfs.mappings(pid) if mapping.executable and mapping.deleted}
    return [
        Reason(
            f"runs code of {name.removesuffix(' (deleted)')}, which has been replaced since",
            where,
            "restart the program after an upgrade of its files",
        )
        for name in sorted(names)
        if name.startswith("/") and not name.startswith(("/memfd:", "/dev/zero", "/SYSV"))
    ]
