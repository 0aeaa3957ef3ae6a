"""The arithmetic of page sets against Python's own sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.memory.page_ranges import (
    PAGE_BYTES,
    Ranges,
    clip,
    collapse,
    count_pages,
    expand,
    inside,
    intersect,
    merge,
    outside,
    ranges,
    union,
)

PAGES = st.sets(st.integers(0, 60), max_size=30)
PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=12)


def of(pages: set[int]) -> Ranges:
    return collapse(np.array(sorted(pages), np.uint64))


def overlapping(pairs: list[tuple[int, int]]) -> Ranges:
    return ranges((first * PAGE_BYTES, (first + count) * PAGE_BYTES) for first, count in pairs)


def covered(pairs: list[tuple[int, int]]) -> set[int]:
    return {page for first, count in pairs for page in range(first, first + count)}


def set_of(found: Ranges) -> set[int]:
    return set(expand(found).tolist())


@given(PAGES)
def test_collapsed_and_expanded_is_the_same(pages: set[int]) -> None:
    assert expand(of(pages)).tolist() == sorted(pages)
    assert count_pages(of(pages)) == len(pages)


@given(PAIRS)
def test_merged_covers_the_same_and_is_apart(pairs: list[tuple[int, int]]) -> None:
    merged = merge(overlapping(pairs))
    assert set_of(merged) == covered(pairs)
    assert (merged[1:, 0] > merged[:-1, 1]).all()


@given(PAIRS, st.integers(0, 5))
def test_merging_fills_small_gaps_only(pairs: list[tuple[int, int]], gap: int) -> None:
    merged = merge(overlapping(pairs), gap * PAGE_BYTES)
    assert set_of(merged) >= covered(pairs)
    assert (merged[1:, 0] > merged[:-1, 1] + np.uint64(gap * PAGE_BYTES)).all()


@given(PAIRS, PAGES)
def test_intersection(pairs: list[tuple[int, int]], allowed: set[int]) -> None:
    assert set_of(intersect(overlapping(pairs), of(allowed))) == covered(pairs) & allowed


@given(PAGES, PAGES)
def test_inside(pages: set[int], allowed: set[int]) -> None:
    numbers = np.array(sorted(pages), np.uint64)
    assert numbers[inside(numbers, of(allowed))].tolist() == sorted(pages & allowed)


@given(PAIRS, st.integers(0, 40), st.integers(0, 40))
def test_clip_and_outside(pairs: list[tuple[int, int]], first: int, count: int) -> None:
    start, end = first * PAGE_BYTES, (first + count) * PAGE_BYTES
    window = set(range(first, first + count))
    assert set_of(clip(overlapping(pairs), start, end)) == covered(pairs) & window
    assert set_of(outside(merge(overlapping(pairs)), start, end)) == window - covered(pairs)


@given(st.lists(PAGES, max_size=4))
def test_union(several: list[set[int]]) -> None:
    found = union(np.array(sorted(pages), np.uint64) for pages in several)
    assert found.tolist() == sorted(set().union(*several))
