"""What became of the newest commands, so that a command that comes again has the result that it had. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import xxhash

from cluster.registry.commands import Command, DeleteProgram, Ok, Rejected, Result, encode
from cluster.registry.values import ProgramId

RESULTS_MAX: Final = 4096
"""Results that are remembered: a command that comes again after so many others is judged anew (and then refused by its
expected token, or because what it creates is there)."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The result of a command that was applied. content: checksum of the command, to know it again."""

    request_id: str
    content: int
    result: Ok | Rejected


class Results:
    """By request id, in the order of the commands; the oldest are forgotten."""

    def __init__(self, known: Iterable[Remembered] = ()) -> None:
        self._known = {one.request_id: one for one in known}

    def all(self) -> tuple[Remembered, ...]:
        """The oldest first."""
        return tuple(self._known.values())

    def of(self, request_id: str, content: int) -> Result | None:
        """What became of this command: its result, or a refusal if its id was used for another one; None: not known."""
        known = self._known.get(request_id)
        if known is None or known.content == content:
            return None if known is None else known.result
        return Rejected("conflict", f"request id {request_id!r} was used for another command")

    def remember(self, request_id: str, content: int, result: Result) -> None:
        """This is what became of it."""
        self._known[request_id] = Remembered(request_id, content, result)
        while len(self._known) > RESULTS_MAX:
            del self._known[next(iter(self._known))]

    def remember_deletion(self, program: ProgramId, asked_by: str) -> None:
        """A program was deleted for this request of a person, "" for none, as if that had been the command.

        Its entry, which remembers such requests otherwise, is gone. An id that stands for something else stays that.
        """
        if asked_by and asked_by not in self._known:
            self.remember(asked_by, content_of(DeleteProgram(asked_by, program)), Ok(program))

    def was_deleted(self, program: ProgramId, request_id: str) -> bool:
        """Whether a program of that name was deleted for this request of a person."""
        known = self._known.get(request_id)
        return known is not None and known.content == content_of(DeleteProgram(request_id, program))


def content_of(command: Command) -> int:
    """The checksum by which a command is known again. Raises ValueError when it is too long."""
    return xxhash.xxh3_64_intdigest(encode(command))
