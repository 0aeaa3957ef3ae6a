"""Every error as one problem document (RFC 9457) with the status that fits (RFC 9110). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from cluster.admin import port
from cluster.admin.models import SHAPES, Problem
from cluster.raft import errors as raft
from transport.errors import ConfigError, ControlError, KagemushaError, PeerRefused, PreflightError

MEDIA_TYPE: Final = "application/problem+json"
URN: Final = "urn:kagemusha:"


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of problem: the last word of its type, its status, its title, and after how long to try again."""

    word: str
    status: int
    title: str
    retry_after_s: int | None = None


UNREADABLE: Final = Sort("unreadable", 400, "The request can't be read")
UNAUTHENTICATED: Final = Sort("unauthenticated", 401, "A token is needed")
FORBIDDEN: Final = Sort("forbidden", 403, "This token may not do that")
NO_PAGE: Final = Sort("no-page", 404, "There is no such page")
UNKNOWN: Final = Sort("unknown", 404, "There is no such thing")
NO_METHOD: Final = Sort("no-method", 405, "This page can't do that")
EXISTS: Final = Sort("exists", 409, "It exists already")
BUSY: Final = Sort("busy", 409, "Something else is under way")
UNFIT: Final = Sort("unfit", 409, "It is in no state for that")
FILES_DIFFER: Final = Sort("files-differ", 409, "The nodes have different files")
KEY_IN_USE: Final = Sort("key-in-use", 409, "The first request with this key is still under way", 1)
TOO_LONG: Final = Sort("too-long", 413, "The request is too long")
MEDIA: Final = Sort("media-type", 415, "The request is no JSON")
INVALID: Final = Sort("invalid", 422, "The request can't be meant like that")
KEY_REUSED: Final = Sort("key-reused", 422, "This key was used for another request")
CONFIG: Final = Sort("config", 422, "The program's file can't be used")
PREFLIGHT: Final = Sort("preflight", 422, "The program can't be mirrored")
LIMIT: Final = Sort("limit", 429, "There are too many", 1)
INTERNAL: Final = Sort("internal", 500, "This is a mistake in kagemusha")
FAILED: Final = Sort("failed", 500, "It did not work")
AGENT: Final = Sort("agent", 502, "The agent refused, or does not answer")
PEER: Final = Sort("peer", 502, "Another node is not who it must be")
NO_QUORUM: Final = Sort("no-quorum", 503, "Too few nodes are there to agree", 1)
NO_LEADER: Final = Sort("no-leader", 503, "No node leads at the moment", 1)
BUSY_NODE: Final = Sort("overloaded", 503, "This node has too much to do", 1)
NOT_HERE: Final = Sort("not-here", 503, "It is not served here")
UNKNOWN_OUTCOME: Final = Sort("unknown-outcome", 504, "Nobody knows yet whether it was done")
DISK: Final = Sort("disk", 507, "This node can't write to its disk")

SORTS: Final[tuple[Sort, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Sort))

_BY_CLASS: Final[dict[type[KagemushaError], Sort]] = {
    port.Unknown: UNKNOWN,
    port.Exists: EXISTS,
    port.Busy: BUSY,
    port.Unfit: UNFIT,
    port.FilesDiffer: FILES_DIFFER,
    port.LimitReached: LIMIT,
    port.Invalid: INVALID,
    port.NotHere: NO_LEADER,
    port.Refusal: BUSY,
    raft.NoQuorum: NO_QUORUM,
    raft.UnknownOutcome: UNKNOWN_OUTCOME,
    raft.Overloaded: BUSY_NODE,
    raft.CommandTooLong: INVALID,
    raft.StorageError: DISK,
    ConfigError: CONFIG,
    PreflightError: PREFLIGHT,
    ControlError: AGENT,
    PeerRefused: PEER,
}

_SAME_KEY: Final = "send the same request again with the same Idempotency-Key"


class ApiError(KagemushaError):
    """Wrong with the request itself, before the cluster was asked."""

    def __init__(self, sort: Sort, what: str, *, hint: str = "", errors: tuple[str, ...] = ()) -> None:
        super().__init__(what, hint=hint)
        self.sort = sort
        self.errors = errors


def sort_of(error: KagemushaError) -> Sort:
    """Of which sort an error is, by the nearest of its classes."""
    if isinstance(error, ApiError):
        return error.sort
    return next((_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS), FAILED)


def problem_of(error: KagemushaError) -> Problem:
    """The document for an error."""
    sort = sort_of(error)
    hint = error.hint or (_SAME_KEY if sort is UNKNOWN_OUTCOME else "")
    errors = error.errors if isinstance(error, ApiError) else ()
    return Problem(
        type=URN + sort.word, title=sort.title, status=sort.status, detail=error.what, hint=hint, errors=errors
    )


def mistakes(error: ValidationError) -> tuple[str, ...]:
    """Each mistake that a model found, as `field: what`; values are not repeated."""
    found: list[str] = []
    for details in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in details["loc"])
        what = details["msg"].removeprefix("Value error, ")
        if details["type"] == "extra_forbidden":
            what = "unknown field"
        elif details["type"] == "missing":
            what = "missing"
        elif details["type"] == "string_pattern_mismatch":
            what = "is " + SHAPES.get(details["ctx"]["pattern"], "of no form that is known")
        found.append(f"{where}: {what}" if where else what)
    return tuple(found)
