"""A structure that is one numpy array or one bytearray: deltas by block, applied in place."""

from __future__ import annotations

from typing import Any

from kagemusha.structures.node import Node
from kagemusha.structures.values import is_array, numpy
from kagemusha.structures.watches import REPLACED, UNCHANGED, patch


class CellNode(Node):
    """Compared at each interval with a copy, which costs as much memory again."""

    __slots__ = ()
    kind = "cell"

    @classmethod
    def layout(cls, target: Any) -> str:
        """See Node."""
        if is_array(target):
            return f"array {numpy().lib.format.dtype_to_descr(target.dtype)} {target.shape}"
        return "bytearray"

    def scan(self, target: Any) -> None:
        """See Node: take() looks, whatever was said."""

    def remember(self, target: Any) -> None:
        """See Node."""
        self.watch(0, target)

    def take(self, target: Any) -> list[Any] | None:
        """See Node. The operation: number, "patch", [offset, bytes] for each block that changed."""
        self.clean = True
        if self.whole or 0 not in self.watches:
            return self.fill(target)
        found = self.watches[0].look(target, self.graph.packer)
        if found is UNCHANGED:
            return None
        return self.fill(target) if found is REPLACED else [self.number, "patch", found]

    def fill(self, target: Any) -> list[Any]:
        """See Node. The operation: number, "fill", value."""
        self.whole = False
        self.remember(target)
        return [self.number, "fill", self.graph.packer.one(target)]

    def apply(self, target: Any, operation: list[Any]) -> None:
        """See Node."""
        if operation[1] == "patch":
            patch(target, operation[2])
            return
        value = self.graph.unpacker.one(operation[2])
        if not is_array(target):
            target[:] = value
            return
        if value.dtype != target.dtype or value.shape != target.shape:
            raise ValueError(f"an array of {value.dtype}{value.shape}, not of {target.dtype}{target.shape}")
        numpy().copyto(target, value)
