"""The image against a dictionary, and what it does when it is full."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import CaptureError
from agent.memory.image import WINDOW_PAGES, Image
from agent.memory.page_ranges import PAGE_BYTES, PAGE_SHIFT, PAGE_WORDS, Pages

SPAN = 4 * WINDOW_PAGES
BASE = 0x7F00_0000_0000 >> PAGE_SHIFT


def rows(pages: Pages, value: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    filled = np.empty((len(pages), PAGE_WORDS), np.uint64)
    filled[:] = (pages * np.uint64(1000) + np.uint64(value))[:, None]
    return filled


def some(first: int, count: int, step: int) -> Pages:
    return np.arange(first, min(first + count * step, SPAN), step, dtype=np.uint64) + np.uint64(BASE)


def put(image: Image, pages: Pages, number: int) -> None:
    image.put(image.slots(pages), rows(pages, number), number)


@dataclass
class Model:
    """page -> number of the checkpoint of its content; and all pages that ever were there."""

    known: dict[int, int] = field(default_factory=dict)
    ever: set[int] = field(default_factory=set)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "forget"]),
        st.integers(0, SPAN - 1),
        st.integers(1, 600),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 15))
def test_an_image_is_a_dictionary(steps: list[tuple[str, int, int, int]], since: int) -> None:
    image, model = Image(64 << 20), Model()
    for number, (what, first, count, step) in enumerate(steps, 1):
        if what == "put":
            pages = some(first, count, step)
            put(image, pages, number)
            model.known.update(dict.fromkeys(pages.tolist(), number))
            model.ever.update(pages.tolist())
        else:
            image.forget(BASE + first, BASE + first + count, number)
            for page in range(BASE + first, BASE + first + count):
                model.known.pop(page, None)
    assert image.pages_known().tolist() == sorted(model.known)
    assert image.pages == len(model.known)
    assert image.changed_since(since).tolist() == sorted(page for page, at in model.known.items() if at > since)
    everything = np.arange(BASE, BASE + SPAN, dtype=np.uint64)
    out = np.ones((SPAN, PAGE_WORDS), np.uint64)
    image.read(everything, out)
    expected = [page * 1000 + model.known[page] if page in model.known else 0 for page in everything.tolist()]
    assert out[:, 0].tolist() == expected
    assert out[:, -1].tolist() == expected
    assert image.remembered(BASE << PAGE_SHIFT, (BASE + SPAN) << PAGE_SHIFT).tolist() == sorted(model.ever)
    assert everything[image.remembers(everything)].tolist() == sorted(model.ever)


def test_lonely_pages_take_no_more_than_themselves() -> None:
    image = Image(64 << 20)
    lonely = np.arange(BASE, BASE + 1000 * WINDOW_PAGES, WINDOW_PAGES, dtype=np.uint64)
    put(image, lonely, 1)
    assert image.bytes_held == 1000 * PAGE_BYTES
    image.forget(BASE, BASE + 1000 * WINDOW_PAGES, 2)
    assert image.bytes_held == 0


def test_a_full_image_says_so_and_forgets_what_it_only_remembers_first() -> None:
    image = Image(4 * WINDOW_PAGES * PAGE_BYTES)
    full = np.arange(BASE, BASE + SPAN, dtype=np.uint64)
    put(image, full, 1)
    with pytest.raises(CaptureError, match="does not fit into its image of 8 MiB"):
        put(image, full + np.uint64(SPAN), 2)
    image.forget(BASE, BASE + SPAN, 3)
    assert image.union_floor == 0
    put(image, full + np.uint64(SPAN), 4)
    assert image.union_floor == 3
    with pytest.raises(CaptureError, match="since checkpoint 2"):
        image.changed_since(2)
    assert len(image.changed_since(3)) == SPAN
    assert image.bytes_held == image.bytes_max


def test_lonely_pages_fill_an_image_too() -> None:
    image = Image(2 << 20)
    put(image, np.arange(BASE, BASE + 512 * WINDOW_PAGES, WINDOW_PAGES, dtype=np.uint64), 1)
    with pytest.raises(CaptureError, match="does not fit"):
        put(image, np.arange(BASE, BASE + 513 * WINDOW_PAGES, WINDOW_PAGES, dtype=np.uint64) + np.uint64(1), 1)


def test_covered_windows_are_named_until_they_are_unmapped() -> None:
    image = Image(64 << 20)
    place = BASE + 700
    image.cover(np.array([place], np.uint64))
    window = place >> 9 << 9
    assert image.covered(BASE << PAGE_SHIFT, (BASE + SPAN) << PAGE_SHIFT).tolist() == [
        [window << PAGE_SHIFT, (window + WINDOW_PAGES) << PAGE_SHIFT]
    ]
    image.forget(BASE, BASE + SPAN, 1)
    assert not len(image.covered(BASE << PAGE_SHIFT, (BASE + SPAN) << PAGE_SHIFT))
