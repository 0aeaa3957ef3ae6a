"""What a structure may hold, what it may not and how that is said, and what a delta costs."""

from __future__ import annotations

import ast
import copy
import dataclasses
import gc
import sys
import threading
from collections import deque
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kagemusha import structures
from kagemusha.structures.deques import Deque
from kagemusha.structures.dicts import Dict
from kagemusha.structures.errors import NameTaken, NotEncodable, Refused, TooLarge
from kagemusha.structures.lists import List
from kagemusha.structures.structure import Structure
from kagemusha.structures.values import OwnType, Types
from tests.kagemusha.structures.world import Account

LIBRARY = Path(structures.__file__).parent


def pair(original: Any, copied: Any, types: Types | None = None) -> tuple[Structure, Structure]:
    """Return both sides, equal."""
    types = types or Types()
    both = Structure("s", original, types), Structure("s", copied, types)
    pass_on(*both)
    return both


def pass_on(original: Structure, copied: Structure) -> int:
    """Carry what changed over; return its size in bytes."""
    update = original.take()
    if update is None:
        return 0
    assert copied.apply(update)
    return len(update.data)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Dict(a=1, b=threading.Lock()), "['b']"),
        (Dict(a=[1, {"x": threading.Lock()}]), "['a'][1]['x']"),
        (List([Account(owner=Dict(k=object()))]), "[0].owner['k']"),
        ({("key", 1): deque([object()])}, "[('key', 1)][0]"),
    ],
)
def test_what_cant_be_encoded_is_named_by_its_place(value: Any, place: str) -> None:
    structure = Structure("book", value, Types())
    with pytest.raises(NotEncodable) as caught:
        structure.take()
    assert caught.value.what.startswith(f"structure book, at {place}: a ")
    assert "structures.register" in caught.value.hint


def test_a_value_that_contains_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(NotEncodable, match="contains itself"):
        Structure("book", Dict(ring=ring), Types()).take()


def test_tracked_containers_may_contain_each_other() -> None:
    a, b = Dict(), List()
    a["b"] = b
    b.append(a)
    _, held = pair(a, Dict())
    root = held.graph.root
    assert root["b"][0] is root


def test_after_a_refusal_the_next_is_a_whole_copy() -> None:
    original, copied = pair(Dict(a=1), Dict())
    original.graph.root["bad"] = object()
    with pytest.raises(NotEncodable):
        original.take()
    del original.graph.root["bad"]
    update = original.take()
    assert update is not None
    assert update.is_whole
    assert copied.apply(update)
    assert copied.graph.root == {"a": 1}


@pytest.mark.parametrize("value", [1, "text", (1, 2), object(), None, frozenset(), np.float64(1)])
def test_what_cant_change_in_place_is_no_structure(value: Any) -> None:
    with pytest.raises(NotEncodable, match="structure book: a "):
        Structure("book", value, Types())


def test_a_limit_holds_for_the_whole_and_for_what_it_grows_to() -> None:
    with pytest.raises(TooLarge, match="its limit is 1000"):
        Structure("book", Dict(a=b"x" * 1000), Types(), limit_bytes=1000).take()
    growing = Structure("book", Dict(), Types(), limit_bytes=10_000)

    def grow() -> None:
        for key in range(1000):
            growing.graph.root[key] = b"x" * 100
            growing.take()

    with pytest.raises(TooLarge):
        grow()


def test_one_object_is_one_structure() -> None:
    book = Dict()
    first = Structure("book", book, Types())
    with pytest.raises(NameTaken, match="structure other"):
        Structure("other", book, Types())
    assert first.graph.root is book


def test_a_mirror_that_changes_its_copy_is_told() -> None:
    original, copied = pair(Dict(a=1), Dict())
    copied.graph.root["a"] = 2
    original.graph.root["b"] = 1
    with pytest.raises(Refused, match="by this mirror itself") as caught:
        pass_on(original, copied)
    assert caught.value.code == "diverged"
    assert copied.holds is None
    copied.apply(original.whole())
    assert copied.graph.root == {"a": 1, "b": 1}


def test_own_types_travel_through_their_hooks() -> None:
    types = Types()
    types.register(OwnType("decimal", Decimal, str, Decimal, True))
    _, held = pair(Dict(price=Decimal("1.10")), Dict(), types)
    assert held.graph.root["price"] == Decimal("1.10")


def test_a_delta_costs_what_changed() -> None:
    original, copied = pair(Dict({key: (key, "row") for key in range(20_000)}), Dict())
    whole = len(original.whole().data)
    for key in range(0, 20_000, 100):
        original.graph.root[key] = (key, "new")
    assert 0 < pass_on(original, copied) < 0.03 * whole


def test_arrays_travel_by_block_and_stay_the_same_object() -> None:
    mirrored = np.zeros(1 << 20, "u1")
    original, copied = pair(np.zeros(1 << 20, "u1"), mirrored)
    original.graph.root[5000] = 7
    assert 4096 < pass_on(original, copied) < 4300
    assert mirrored[5000] == 7
    assert copied.graph.root is mirrored


def test_a_queue_costs_what_it_holds() -> None:
    original, copied = pair(Deque(range(100)), Deque())
    for number in range(100_000):
        original.graph.root.append(number)
        original.graph.root.popleft()
    assert pass_on(original, copied) < 1000
    assert copied.graph.root == original.graph.root


@pytest.mark.parametrize("make", [lambda: Dict(a=1), lambda: List([1]), lambda: Deque([1], 3), lambda: Account(1)])
def test_copies_belong_to_no_structure(make: Any) -> None:
    original = make()
    Structure("book", Dict(it=original), Types()).take()
    for copied in (copy.copy(original), copy.deepcopy(Dict(it=original))["it"]):
        assert copied._kagemusha is None
        assert type(copied) is type(original)


def test_a_tracked_class_is_a_plain_dataclass() -> None:
    for broken in (int, dataclasses.make_dataclass("Frozen", ["x"], frozen=True)):
        with pytest.raises(NotEncodable):
            structures.tracked(broken)


@pytest.mark.parametrize("file", sorted(LIBRARY.glob("*.py")), ids=lambda file: file.name)
def test_the_library_is_python_3_9_and_needs_nothing_but_msgpack(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert foreign <= {"kagemusha", "msgpack", "numpy"}
    assert all(name.startswith("kagemusha.structures") for name in modules if name.startswith("kagemusha."))


def test_garbage_may_be_collected_in_the_middle_of_a_whole_copy() -> None:
    """What only refers to itself goes at any moment, and takes its numbers with it."""

    def collecting(price: Decimal) -> str:
        gc.collect()
        return str(price)

    types = Types()
    types.register(OwnType("decimal", Decimal, collecting, Decimal, True))
    root = Dict()
    original = Structure("book", root, types)
    gc.disable()
    try:
        root["price"] = Decimal("7.50")
        original.take()
        for number in range(10):
            root["ring"] = ring = List([number])
            ring.append(ring)
            original.take()
        update = original.whole()
    finally:
        gc.enable()
    copied = Structure("book", Dict(), types)
    assert copied.apply(update)
    assert copied.graph.root["price"] == Decimal("7.50")
    assert copied.graph.root["ring"][0] == 9
