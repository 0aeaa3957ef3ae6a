"""What of a running program can't be mirrored, found by reading /proc: nothing is stopped or changed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

from agent.context import process
from agent.context.descriptors import DescriptorCapture
from agent.context.kind import RuleFor
from agent.errors import CaptureError, KernelError, TraceeGone
from agent.kernel import procfs
from agent.kernel.pidfd import open_pidfd
from agent.reason import Reason
from agent.tracing.stopped import RemoteCall, Stopped
from transport.errors import PreflightError

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


def inspect_process(pid: int, rule_for: RuleFor) -> Inspection:
    """Look at the process `pid`: as a whole, what it has mapped, what it has open. rule_for: what program.toml says
    about a regular file.

    Raises PreflightError where there is no such process, or it can't be looked at.
    """
    where = f"process {pid}"
    try:
        found = [*process.reasons_against(pid), *mapping_reasons(where, procfs.mappings(pid))]
        found += [*_descriptor_reasons(pid, rule_for), *_children(where, pid), *_replaced_files(where, pid)]
    except TraceeGone as error:
        raise PreflightError(f"there is no process {pid}", hint="give the pid of the running program") from error
    except (KernelError, CaptureError) as error:
        raise PreflightError(
            f"{where} can't be looked at: {error.what}", hint="run it as root, or try again"
        ) from error
    except OSError as error:
        raise PreflightError(f"{where} changed while it was looked at: {error}", hint="try again") from error
    refusals = [reason for reason in found if not reason.lost]
    return Inspection(refusals, [reason for reason in found if reason.lost])


def mapped_files(pid: int) -> list[str]:
    """The paths of all regular files that the process has mapped privately: code, libraries, read-only data. Sorted.

    Raises PreflightError where there is no such process.
    """
    try:
        names = {mapping.name for mapping in procfs.mappings(pid) if mapping.inode and not mapping.shared}
    except TraceeGone as error:
        raise PreflightError(f"there is no process {pid}", hint="give the pid of the running program") from error
    return sorted(name for name in names if name.startswith("/") and os.path.isfile(name))


def _descriptor_reasons(pid: int, rule_for: RuleFor) -> list[Reason]:
    """What the program has open; looked at while it runs, so what it opens or closes meanwhile may be missed."""
    pidfd = open_pidfd(pid)
    try:
        descriptors = DescriptorCapture(pid, rule_for)
        try:
            return descriptors.reasons_against(Stopped(pid, {}, memory=-1, pidfd=pidfd, remote=_no_remote_call))
        finally:
            descriptors.close()
    finally:
        os.close(pidfd)


def _no_remote_call(tid: int) -> AbstractContextManager[RemoteCall]:
    raise PreflightError(f"thread {tid} is not stopped: nothing can be injected into it")


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
            lost=True,
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
            lost=True,
        )
        for name in sorted(names)
        if name.startswith("/") and not name.startswith(("/memfd:", "/dev/zero", "/SYSV"))
    ]
