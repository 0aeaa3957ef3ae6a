"""A mirror's side: the warm process, or its file, into which a structure is written as its updates come."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.errors import RestoreError
from agent.kernel.vm import ProcessMemory
from agent.memory.page_ranges import Ranges
from agent.structures.blocks import Blocks, Coverage
from agent.structures.finding import Placed, Structure
from agent.structures.standstill import Standstill
from agent.structures.update import Copy, Update


class Target(Protocol):
    """What a structure is written into; ranges count from its beginning. Both give whether all could be done."""

    def write_bytes(self, of: Ranges, content: NDArray[np.uint8]) -> bool: ...

    def read_bytes(self, of: Ranges, out: NDArray[np.uint8]) -> bool: ...

    def close(self) -> None: ...


class Variable:
    """A variable of a running process as a target."""

    def __init__(self, place: Placed) -> None:
        self._memory = ProcessMemory(place.pid)
        self._address = np.uint64(place.address)

    def close(self) -> None:
        self._memory.close()

    def write_bytes(self, of: Ranges, content: NDArray[np.uint8]) -> bool:
        return self._memory.write_bytes(of + self._address, content)

    def read_bytes(self, of: Ranges, out: NDArray[np.uint8]) -> bool:
        return self._memory.read_bytes(of + self._address, out)


class Writer:
    """Applies the updates of one structure to one target. copy: what the target was last given.

    is_sound: whether the target holds all of a version; a process of which one does not must not be promoted.
    """

    def __init__(self, structure: Structure, target: Target, copy: Copy, standstill: Standstill) -> None:
        """Takes the target over."""
        self.copy = copy
        self.is_sound = False
        self._name = structure.name
        self._coverage = Coverage(structure.extents, structure.size)
        self._target = target
        self._standstill = standstill

    def close(self) -> None:
        self._target.close()

    def apply(self, update: Update) -> bool:
        """Bring the process to the update's version; False for a repetition, which changes nothing.

        Raises StaleUpdate and CorruptUpdate with the process as it was; RestoreError, CheckpointAbandoned, TraceeGone
        when it could not be written completely: it is not sound then until a later one succeeds, or `write_all`.
        """
        blocks = self.copy.apply(update)
        if not len(blocks):
            return False
        if not self.is_sound:
            blocks = self._coverage.all
        self._write(blocks)
        return True

    def write_all(self) -> None:
        """Write the whole copy once more. There must be one. Raises as `apply`."""
        self._write(self._coverage.all)

    def differs(self) -> list[tuple[int, int]]:
        """Where the process's own content is another than it was given: byte ranges of the structure, at most 16.

        The program has written there itself: a mirror that does not keep its hands off.
        """
        pieces, wanted = self._coverage.pieces(self._coverage.all, self.copy.rows)
        found = np.empty_like(wanted)
        if not self._target.read_bytes(pieces, found):
            raise RestoreError(f"{self._name} can't be read any more", hint="the mirror's program may have unmapped it")
        wrong = np.flatnonzero(found != wanted)
        if not len(wrong):
            return []
        # From places among the bytes to places in the structure.
        lengths = (pieces[:, 1] - pieces[:, 0]).astype(np.int64)
        ends = np.cumsum(lengths)
        piece = np.searchsorted(ends, wrong, "right")
        offsets = pieces[piece, 0].astype(np.int64) + wrong - (ends - lengths)[piece]
        heads = np.flatnonzero(np.concatenate(([True], offsets[1:] != offsets[:-1] + 1)))
        tails = np.append(heads[1:] - 1, len(offsets) - 1)
        return [(int(offsets[a]), int(offsets[b]) + 1) for a, b in zip(heads[:16], tails[:16], strict=True)]

    def _write(self, blocks: Blocks) -> None:
        pieces, content = self._coverage.pieces(blocks, self.copy.rows[blocks])
        self.is_sound = False
        with self._standstill():
            if not self._target.write_bytes(pieces, content):
                raise RestoreError(
                    f"{self._name} can't be written any more", hint="the mirror's program may have unmapped it"
                )
        self.is_sound = True
