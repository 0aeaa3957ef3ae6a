"""Each kind of container, by its node: which goes with a value, and what makes one like it on the other side."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgpack
import numpy as np
import pytest

from kagemusha.structures.deques import Deque
from kagemusha.structures.dicts import Dict
from kagemusha.structures.errors import NotEncodable
from kagemusha.structures.graph import Graph
from kagemusha.structures.kinds import kind_named, kind_of, layout
from kagemusha.structures.lists import List
from kagemusha.structures.sets import Set
from kagemusha.structures.values import Types
from tests.kagemusha.structures.world import Account, Note

TRACKED = (Dict(a=1), List([1]), Set([1]), Deque([1], 3), Account(1))


@pytest.mark.parametrize("original", TRACKED, ids=lambda value: type(value).__name__)
def test_the_other_side_makes_one_of_the_same_kind_and_class(original: Any) -> None:
    kind = kind_of(original)
    made = kind_named(kind.kind).make(kind.detail(original))
    assert type(made) is type(original)
    assert kind_of(made) is kind
    assert made._kagemusha is None


def test_a_deque_that_is_made_holds_as_many_items_at_most() -> None:
    kind = kind_of(Deque((), 3))
    assert kind.make(kind.detail(Deque((), 3))).maxlen == 3
    assert kind.make(kind.detail(Deque())).maxlen is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Dict(), "dict"),
        ({}, "dict"),
        ([], "list"),
        (set(), "set"),
        (deque(maxlen=7), "deque 7"),
        (bytearray(9), "bytearray"),
        (np.zeros((2, 3), "<i4"), "array <i4 (2, 3)"),
        (Account(), "object tests.kagemusha.structures.world:Account(owner,balance)"),
    ],
)
def test_the_layout_says_what_must_be_equal_on_both_sides(value: Any, text: str) -> None:
    assert layout(value) == text


@pytest.mark.parametrize("array", [np.zeros((4, 4))[:, 1], np.array([object()])])
def test_an_array_that_has_no_bytes_of_its_own_in_a_row_is_refused(array: Any) -> None:
    with pytest.raises(NotEncodable, match="not contiguous"):
        kind_of(array)


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("heap", None),
        ("cell", None),
        ("object", f"{Note.__module__}:{Note.__qualname__}"),
        ("object", f"{Note.__module__}:Nobody"),
    ],
)
def test_what_cant_be_made_here_is_refused(kind: str, detail: str | None) -> None:
    copy = Graph(Dict(), Types())
    with pytest.raises(ValueError, match=r"kind of containers|can't be made|there is no class"):
        copy.apply(msgpack.packb([[[1, kind, detail]], [], []]), whole=False)
