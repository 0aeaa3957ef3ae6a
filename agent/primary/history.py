"""Which records changed in which checkpoint, so that a mirror that lags gets the union of what it missed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transport.checkpoint import Records, diff_records


@dataclass(slots=True)
class _Life:
    """The numbers of the checkpoints in which a record appeared and last changed."""

    born: int
    changed: int


class RecordHistory:
    """The records of the newest checkpoint, and for each the number in which it last changed.

    Memory: the records, and one entry for each key that was removed after the oldest number that `forget_before` left.
    """

    def __init__(self) -> None:
        self.records: Records = {}
        self._lives: dict[str, _Life] = {}
        self._graves: dict[str, list[tuple[int, int]]] = {}

    def advance(self, number: int, records: Records) -> tuple[Records, tuple[str, ...]]:
        """Take over `records` as those of checkpoint `number`; return what changed and what was removed."""
        changed, removed = diff_records(self.records, records)
        for key in changed:
            life = self._lives.get(key)
            if life is None:
                self._lives[key] = _Life(number, number)
            else:
                life.changed = number
        for key in removed:
            self._graves.setdefault(key, []).append((self._lives.pop(key).born, number))
        self.records = dict(records)
        return changed, removed

    def since(self, number: int) -> tuple[Records, tuple[str, ...]]:
        """Return what changed after checkpoint `number`, and the keys that it had and that are gone."""
        changed = {key: self.records[key] for key, life in self._lives.items() if life.changed > number}
        removed = tuple(
            sorted(
                key
                for key, graves in self._graves.items()
                if key not in self.records and any(born <= number < died for born, died in graves)
            )
        )
        return changed, removed

    def forget_before(self, number: int) -> None:
        """Nobody will ask for what changed before `number` any more."""
        kept = {key: [grave for grave in graves if grave[1] > number] for key, graves in self._graves.items()}
        self._graves = {key: graves for key, graves in kept.items() if graves}

    def seed(self, number: int, records: Mapping[str, bytes]) -> None:
        """Begin with `records` as those of checkpoint `number`: a mirror that has become the primary."""
        self.records = dict(records)
        self._lives = {key: _Life(number, number) for key in records}
        self._graves = {}
