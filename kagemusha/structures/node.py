"""A node: what is known of one container that is mirrored. The kinds of containers stand on it, and the graph on them.

Containers that are tracked tell their node what was changed. All other mutable values (a plain list in a tracked dict,
an array) are watched: looked at again at each interval, and compared (watches.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, ClassVar, Protocol

from kagemusha.structures.values import MIXED, Packer, Unpacker
from kagemusha.structures.watches import REPLACED, UNCHANGED, Watch, watch_on


class Surroundings(Protocol):
    """What a node needs of the graph that it is in.

    `touched`: number -> container, which the next delta asks. `watching`: number -> node, if it has watches.
    """

    packer: Packer
    unpacker: Unpacker
    touched: dict[int, Any]
    watching: dict[int, Node]

    def is_settled(self, value: Any) -> bool:
        """Whether a value can't change without telling."""


class Node:
    """One container. `clean`: nothing was reported since the last delta. `whole`: send everything next time.

    `watches`: place in the container -> Watch. Containers call `touch` before they report a first change.
    """

    __slots__ = ("clean", "graph", "number", "watches", "whole")
    kind: ClassVar[str] = ""

    def __init__(self, graph: Surroundings, number: int) -> None:
        self.graph = graph
        self.number = number
        self.clean = True
        self.whole = False
        self.watches: dict[Any, Watch] = {}

    @classmethod
    def layout(cls, target: Any) -> str:
        """Return what must be equal on both sides, as the text of which a type hash is made."""
        return cls.kind

    @classmethod
    def detail(cls, target: Any) -> Any:
        """Return what the other side must know, besides the kind, to make a container like `target`."""
        return None

    @classmethod
    def make(cls, detail: Any) -> Any:
        """Return a new container that is tracked; raises ValueError when there is none of this kind."""
        raise ValueError(f"a {cls.kind} can't be made: it is a structure of its own")

    def touch(self, target: Any) -> None:
        """Have the graph ask this node at the next delta."""
        self.clean = False
        self.graph.touched[self.number] = target

    def renew(self, target: Any) -> None:
        """Everything may have changed: send the whole container next time."""
        self.touch(target)
        self.whole = True

    def forget_changes(self) -> None:
        """All that was reported is known by other ways."""
        self.clean, self.whole = True, False

    def scan(self, target: Any) -> None:
        """Find what was changed, in a container that does not report it."""
        raise NotImplementedError

    def remember(self, target: Any) -> None:
        """Keep what scan() compares with."""
        raise NotImplementedError

    def take(self, target: Any) -> list[Any] | None:
        """Return the operation that brings a copy up to date, forget what was reported; None: nothing to do."""
        raise NotImplementedError

    def fill(self, target: Any) -> list[Any]:
        """Return the operation that makes an empty or older container equal to `target`."""
        raise NotImplementedError

    def apply(self, target: Any, operation: list[Any]) -> None:
        """Carry out an operation, past the tracking."""
        raise NotImplementedError

    def watch(self, place: Any, value: Any) -> None:
        """Look at `value` again next time, if it can change without telling."""
        graph = self.graph
        if not graph.is_settled(value):
            self.watches[place] = watch_on(value, graph.packer)
            graph.watching[self.number] = self
        elif self.watches:
            self.watches.pop(place, None)

    def watch_all(self, places: Any, values: Iterable[Any], mode: int = MIXED) -> None:
        """Do the same for many; quick where the `mode` of their column says that nothing can change."""
        if mode != MIXED:
            if self.watches:
                for place in places:
                    self.watches.pop(place, None)
            return
        for place, value in zip(places, values):
            self.watch(place, value)

    def looked(self, get: Callable[[Any], Any], skip: Any) -> tuple[list[Any], list[Any]]:
        """Compare what is watched; return the places to send anew, and patches: [place, [[offset, bytes] ...]]."""
        replaced: list[Any] = []
        patches: list[Any] = []
        packer = self.graph.packer
        for place, watch in list(self.watches.items()):
            if place in skip:
                continue
            result = watch.look(get(place), packer)
            if result is REPLACED:
                replaced.append(place)
            elif result is not UNCHANGED:
                patches.append([packer.one(place), result])
        return replaced, patches
