"""One structure under its name: versions, states and sums around its graph, as the original or as the copy.

Pure but for the values it keeps and for a random number in the state of a new history. What the words mean:
docs/structures-protocol.md.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any, Callable

from kagemusha.structures.checksum import digest
from kagemusha.structures.errors import NameTaken, NotEncodable, Refused, TooLarge
from kagemusha.structures.graph import Graph
from kagemusha.structures.kinds import layout
from kagemusha.structures.refusal import refused_place
from kagemusha.structures.values import Types
from kagemusha.structures.whole_copy import PIECE_ITEMS, WholeCopy

NO_STATE = b"\0" * 8
LIMIT_BYTES = 256 << 20
"""Default of the most bytes of a whole copy."""


@dataclass(frozen=True)
class Update:
    """Changes since a version, or with `base_version` 0 a whole copy. `base`, `state`, `sum`: 8 bytes each."""

    structure: str
    token: int
    base_version: int
    base: bytes
    version: int
    state: bytes
    sum: bytes
    data: bytes

    @property
    def is_whole(self) -> bool:
        return self.base_version == 0


def sum_of(name: str, version: int, base: bytes, state: bytes, data: bytes) -> bytes:
    """Return the sum of an update (`state` empty) or of a whole copy (`base` NO_STATE)."""
    return digest(name.encode(), b"\0", version.to_bytes(8, "little"), base, state, data)


class Structure:
    """One named object of this program.

    `version` 0: nothing was sent or applied yet. `state` None: what is held can't be told; only a whole copy helps.
    """

    def __init__(self, name: str, root: Any, types: Types, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """Raises NotEncodable when `root` can't be mirrored, NameTaken when it is part of a structure already."""
        if getattr(root, "_kagemusha", None) is not None:
            raise NameTaken(f"the object for structure {name} is part of another structure already")
        try:
            self.graph = Graph(root, types)
        except NotEncodable as error:
            raise NotEncodable(f"structure {name}: {error.what}", hint=error.hint) from None
        self._types = types
        self.name = name
        self.limit_bytes = limit_bytes
        self.consistency = "commit"
        self.layout = layout(root)
        self.version = 0
        self.state: bytes | None = None
        self.token = 0
        self._size_bytes = 0

    @property
    def type_hash(self) -> bytes:
        """8 bytes that are equal where updates may be applied."""
        return digest(self.layout.encode())

    @property
    def holds(self) -> tuple[int, bytes] | None:
        """Version and state, if they are known."""
        return None if self.state is None else (self.version, self.state)

    def take(self) -> Update | None:
        """Return the changes since the last version, or a whole copy where none was made yet; None: no changes.

        Raises NotEncodable (naming structure and place) or TooLarge; the next one is a whole copy then.
        """
        if self.state is None:
            return self._new_whole()
        try:
            data = self.graph.take()
        except NotEncodable as error:
            self.lose()
            raise self._placed(error) from error
        if data is None:
            return None
        self._size_bytes += len(data)
        if len(data) > self.limit_bytes or self._size_bytes > 2 * self.limit_bytes:
            return self._new_whole()
        base_version, base = self.version, self.state
        self.version += 1
        self.state = sum_of(self.name, self.version, base, b"", data)
        return Update(self.name, self.token, base_version, base, self.version, self.state, self.state, data)

    def whole(self) -> Update:
        """Return everything, at the version of the last take(), which must be just before. Raises as take() does."""
        self.begin_whole(sys.maxsize)
        return self.end_whole()()

    def _new_whole(self) -> Update:
        self.lose()
        return self.whole()

    def begin_whole(self, piece_items: int = PIECE_ITEMS) -> WholeCopy:
        """Take hold of everything at the version of the last take(), which must be just before, or at a new version.

        It is to be packed, step by step, while take() goes on; then end_whole() comes. Raises NotEncodable.
        """
        if self.graph.is_changed:  # since then, by another thread: nobody was told, so nobody can follow
            self.lose()
        is_new = self.state is None
        try:
            copy = self.graph.begin_copy(piece_items)
        except NotEncodable as error:
            self.lose()
            raise self._placed(error) from error
        if is_new:
            copy.is_new = True
            self.version += 1
            self.state = digest(self.name.encode(), b"\0", self.version.to_bytes(8, "little"), os.urandom(8))
        return copy

    def end_whole(self) -> Callable[[], Update]:
        """The copy that was begun is packed: it is one of the present version. Return what puts it together.

        That takes long for large ones, and may be called in any thread. It raises TooLarge.
        """
        copy, version, state = self.graph.copy, self.version, self.state
        if copy is None or state is None:
            raise ValueError(f"structure {self.name}: no whole copy was begun")
        self.graph.copy = None

        def put_together() -> Update:
            data = copy.data()
            if len(data) > self.limit_bytes:
                self.lose()
                raise TooLarge(
                    f"structure {self.name} has {len(data)} bytes; its limit is {self.limit_bytes}",
                    hint="a higher limit, or fewer entries",
                )
            # Deltas count against the limit until the next copy; with room, or copies would follow each other.
            self._size_bytes = min(len(data), self.limit_bytes * 9 // 10)
            total = sum_of(self.name, version, NO_STATE, state, data)
            return Update(self.name, self.token, 0, NO_STATE, version, state, total, data)

        return put_together

    @property
    def may_be_too_large(self) -> bool:
        """Whether it may have grown beyond its limit: a whole copy tells."""
        return self._size_bytes > self.limit_bytes

    def lose(self) -> None:
        """What was sent until now counts no more: everything is sent anew."""
        self.state = None
        self.graph.copy = None

    def _placed(self, error: NotEncodable) -> NotEncodable:
        found = refused_place(self.graph.root, self._types)
        place, reason = found if found is not None else ("", error)
        where = f"structure {self.name}, at {place}" if place else f"structure {self.name}"
        return NotEncodable(f"{where}: {reason.what}", hint=reason.hint)

    def apply(self, update: Update) -> bool:
        """Apply it and return True, or return False for one that is held already.

        Raises Refused: nothing was applied. With the codes "corrupt", "gap" and "diverged" only a whole copy helps.
        """
        if update.token < self.token:
            raise Refused("stale-token", f"structure {self.name}: token {update.token} is lower than {self.token}")
        if self.graph.is_changed and not update.is_whole:
            self.state = None
            self.graph.touched = {}
            raise Refused("diverged", f"structure {self.name} was changed by this mirror itself", hint="role()")
        if self.state is not None and update.version <= self.version and update.token == self.token:
            return False
        given = update.state if update.is_whole else b""
        if update.sum != sum_of(self.name, update.version, update.base, given, update.data):
            raise Refused("corrupt", f"structure {self.name}: version {update.version} has a wrong sum")
        if not update.is_whole and (self.state != update.base or self.version != update.base_version):
            raise Refused("gap", f"structure {self.name}: version {update.version} does not follow what is held")
        self.state = None
        try:
            self.graph.apply(update.data, whole=update.is_whole)
        except Exception as error:
            raise Refused(
                "corrupt", f"structure {self.name}: version {update.version} can't be applied: {error!r}"
            ) from error
        self.version, self.state, self.token = update.version, update.state, update.token
        return True

    def lead(self, token: int) -> None:
        """Become the original: go on from what is held, or, where that can't be told, with a whole copy."""
        self.token = max(self.token, token)
        self.graph.lead()
        if self.graph.is_changed or not self.graph.is_certain:
            self.state = None

    def follow(self, token: int) -> None:
        """Become the copy; nothing that is held counts until a whole copy was applied."""
        self.token = max(self.token, token)
        self.state = None
        self.graph.let_go()
