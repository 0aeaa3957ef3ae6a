"""A mirror's side: all native structures of one warm program, written as their updates come.

A structure is written only when both sides have said that their layouts are the same. What goes wrong with one is told
in one line; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.errors import CheckpointAbandoned, RestoreError, StructureError
from agent.structures.decode import Value, decode
from agent.structures.finding import Structure
from agent.structures.locating import Located
from agent.structures.regular_file import RegularFile
from agent.structures.report import Declaration, Refusal, Resync
from agent.structures.shape import member_at
from agent.structures.standstill import Standstill
from agent.structures.update import Applied, Copy, Update
from agent.structures.writer import Target, Variable, Writer
from transport.delta import PagePartDecoder
from transport.errors import CorruptUpdate, StaleUpdate


@dataclass(slots=True)
class _Received:
    """One structure as it comes. is_same: the primary has this layout, too. is_waiting: a whole copy was asked for."""

    structure: Structure
    writer: Writer
    is_same: bool = False
    is_waiting: bool = False


class Reception:
    """Applies updates to one warm program, in the tracer thread. refusals: of what is lost already."""

    def __init__(self, located: Iterable[Located], stop: Standstill, *, decoder: PagePartDecoder | None = None) -> None:
        """Raises TraceeGone."""
        self.refusals: list[Refusal] = []
        decoder = decoder or PagePartDecoder()
        self._all: dict[str, _Received] = {}
        for one in located:
            try:
                target = _target(one)
            except StructureError as error:
                self.refusals.append(Refusal.of(one.name, "lost", error))
                continue
            writer = Writer(one.structure, target, Copy(one.name, one.structure.size, decoder), stop)
            self._all[one.name] = _Received(one.structure, writer)

    def close(self) -> None:
        for one in self._all.values():
            one.writer.close()
        self._all.clear()

    @property
    def declarations(self) -> list[Declaration]:
        """What can be received, as this side has it."""
        return [Declaration.of(one.structure) for one in self._all.values()]

    @property
    def holds(self) -> dict[str, tuple[int, bytes]]:
        """Version and state of each structure that the program holds completely: with these it may be promoted."""
        return {
            name: (one.writer.copy.version, one.writer.copy.state)
            for name, one in self._all.items()
            if one.writer.is_sound
        }

    @property
    def copies(self) -> dict[str, Copy]:
        """The copies of what `holds` names, with which a `Supply` goes on after the promotion."""
        return {name: one.writer.copy for name, one in self._all.items() if one.writer.is_sound}

    def content(self, name: str) -> bytes | None:
        """The blocks of a structure as its program was given it; None while it does not hold it, or has none."""
        one = self._all.get(name)
        return one.writer.copy.rows.tobytes() if one is not None and one.writer.is_sound else None

    def value(self, name: str) -> Value:
        """A structure as its program was given it, decoded by its type. Raises KeyError: it is not mirrored here."""
        one = self._all[name]
        return decode(one.structure.layout, one.writer.copy.rows.tobytes()[: one.structure.size])

    def look_for_divergence(self) -> list[Refusal]:
        """Compare what the program has with what it was given: it must leave its structures alone while it is a mirror.

        What has diverged is written again, by the next update or whole copy at the latest.
        """
        found: list[Refusal] = []
        for name, one in self._all.items():
            if one.writer.is_sound and (ranges := one.writer.differs()):
                one.writer.is_sound = False
                member = member_at(one.structure.layout, name, ranges[0][0])
                what = f"{member} was changed by the mirror's own program"
                more = f", and {len(ranges) - 1} more places" if len(ranges) > 1 else ""
                hint = "a mirror must not work on its structures: it has to know its role"
                found.append(Refusal(name, "diverged", what + more, hint))
        return found

    def compare(self, declaration: Declaration) -> Refusal | None:
        """The primary's declaration of a structure: from here on its updates are applied, if its layout is the same."""
        one = self._all.get(declaration.structure)
        if one is None:
            return _unknown(declaration.structure)
        try:
            one.structure.check_same(declaration.lines)
        except StructureError as error:
            one.is_same = False
            return Refusal.of(declaration.structure, "type-mismatch", error)
        one.is_same = True
        return None

    def apply(self, update: Update) -> Applied | Resync | Refusal | None:
        """What to answer to an update; None to a repetition, and while a whole copy is awaited.

        Raises TraceeGone: the mirror's program has ended.
        """
        one = self._all.get(update.structure)
        if one is None or not one.is_same:
            return _unknown(update.structure)
        copy = one.writer.copy
        if update.token < copy.token:
            what = f"an update of {update.structure} has token {update.token}, and {copy.token} was seen"
            return Refusal(update.structure, "stale-token", what)
        try:
            is_new = one.writer.apply(update)
            if update.is_whole and not one.writer.is_sound:
                one.writer.write_all()
        except (StaleUpdate, CorruptUpdate, RestoreError, CheckpointAbandoned) as error:
            if one.is_waiting:
                return None
            one.is_waiting = True
            return Resync(update.structure, copy.version, copy.state, error.what)
        if update.is_whole:
            one.is_waiting = False
        return Applied(update.structure, copy.version, copy.state) if is_new or update.is_whole else None


def _target(one: Located) -> Target:
    if one.place is None:
        return RegularFile(one.table.file or "", one.name, writable=True, size=one.structure.size)
    return Variable(one.place)


def _unknown(name: str) -> Refusal:
    return Refusal(
        name, "unknown-structure", f"{name} is not mirrored here", "the definition must be the same on both nodes"
    )
