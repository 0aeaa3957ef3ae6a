"""Exit codes of the command line: each says whose turn it is. They are documented in docs/exit-codes.md."""

from __future__ import annotations

from enum import IntEnum

from agent.errors import CaptureError, KernelError, LaunchError, RestoreError, TraceeGone, Unsupported
from transport.errors import (
    ConfigError,
    ControlError,
    CorruptUpdate,
    FrameError,
    KagemushaError,
    PeerRefused,
    PreflightError,
    StaleUpdate,
)


class ExitCode(IntEnum):
    """What a command's end means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    PREFLIGHT = 4
    PRIVILEGE = 5
    LAUNCH = 6
    CONTROL = 7
    PEER = 8
    KERNEL = 9
    PROGRAM = 10
    UNREACHABLE = 11
    NO_QUORUM = 12
    DENIED = 13
    UNKNOWN = 14
    CONFLICT = 15
    UNKNOWN_OUTCOME = 16
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "it did not work; the line on stderr says what",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.CONFIG: "a configuration file can't be used as it stands",
    ExitCode.PREFLIGHT: "something of the program or of the node can't be mirrored",
    ExitCode.PRIVILEGE: "it takes root",
    ExitCode.LAUNCH: "the program could not be started",
    ExitCode.CONTROL: "the agent does not answer, or refused the request",
    ExitCode.PEER: "another node is not who it must be, or sent something that is not valid",
    ExitCode.KERNEL: "the kernel refused something that was expected to work",
    ExitCode.PROGRAM: "the program, or its mirror, could not be captured or continued",
    ExitCode.UNREACHABLE: "no node of the cluster answers",
    ExitCode.NO_QUORUM: "too few nodes are there to agree, or none of them leads; nothing was changed",
    ExitCode.DENIED: "the token is not known, or may not do that",
    ExitCode.UNKNOWN: "there is no such program, instance or node",
    ExitCode.CONFLICT: "it exists already, something else is under way, or it is in no state for that",
    ExitCode.UNKNOWN_OUTCOME: "nobody knows yet whether it was done: look before you ask again",
    ExitCode.INTERRUPTED: "interrupted from the keyboard",
}

_BY_CLASS: dict[type[KagemushaError], ExitCode] = {
    ConfigError: ExitCode.CONFIG,
    PreflightError: ExitCode.PREFLIGHT,
    Unsupported: ExitCode.PREFLIGHT,
    LaunchError: ExitCode.LAUNCH,
    ControlError: ExitCode.CONTROL,
    PeerRefused: ExitCode.PEER,
    FrameError: ExitCode.PEER,
    CorruptUpdate: ExitCode.PEER,
    StaleUpdate: ExitCode.PEER,
    KernelError: ExitCode.KERNEL,
    TraceeGone: ExitCode.PROGRAM,
    CaptureError: ExitCode.PROGRAM,
    RestoreError: ExitCode.PROGRAM,
}


_BY_KIND: dict[str, ExitCode] = {
    "unreachable": ExitCode.UNREACHABLE,
    "no-quorum": ExitCode.NO_QUORUM,
    "no-leader": ExitCode.NO_QUORUM,
    "overloaded": ExitCode.NO_QUORUM,
    "unauthenticated": ExitCode.DENIED,
    "forbidden": ExitCode.DENIED,
    "unknown": ExitCode.UNKNOWN,
    "no-page": ExitCode.UNKNOWN,
    "exists": ExitCode.CONFLICT,
    "busy": ExitCode.CONFLICT,
    "unfit": ExitCode.CONFLICT,
    "files-differ": ExitCode.CONFLICT,
    "limit": ExitCode.CONFLICT,
    "unknown-outcome": ExitCode.UNKNOWN_OUTCOME,
    "invalid": ExitCode.USAGE,
    "config": ExitCode.CONFIG,
    "setup": ExitCode.CONFIG,
    "preflight": ExitCode.PREFLIGHT,
    "launch": ExitCode.LAUNCH,
    "agent": ExitCode.CONTROL,
    "peer": ExitCode.PEER,
    "certificate": ExitCode.PEER,
}


class ClusterRefused(KagemushaError):
    """The cluster said no, or could not be asked. kind: see `kagemusha.client.ApiError`."""

    def __init__(self, what: str, *, hint: str = "", kind: str = "failed") -> None:
        super().__init__(what, hint=hint)
        self.kind = kind


class NotPermitted(KagemushaError):
    """The command takes root, and was not run as root."""


def exit_code_of(error: KagemushaError) -> ExitCode:
    """The exit code for `error`, by the nearest of its classes; FAILED for one that has none of its own."""
    if isinstance(error, NotPermitted):
        return ExitCode.PRIVILEGE
    if isinstance(error, ClusterRefused):
        return _BY_KIND.get(error.kind, ExitCode.FAILED)
    return next((_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS), ExitCode.FAILED)
