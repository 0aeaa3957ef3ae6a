"""Sets of pages as arrays: page numbers one by one, or ranges of addresses. Pure.

Pages: uint64[n], page number = address >> 12, strictly ascending unless said otherwise.
Ranges: uint64[n, 2 or more], first two columns start and end address, page-aligned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAGE_SHIFT: Final = 12
PAGE_BYTES: Final = 1 << PAGE_SHIFT
PAGE_WORDS: Final = PAGE_BYTES // 8
LONG_BYTES: Final = 32 * PAGE_BYTES
"""Written ranges of this size may be absent (never touched, or given back): worth a look before they are read."""

Pages = NDArray[np.uint64]
Ranges = NDArray[np.uint64]
Mask = NDArray[np.bool_]

NO_PAGES: Final[Pages] = np.empty(0, np.uint64)
NO_RANGES: Final[Ranges] = np.empty((0, 2), np.uint64)
_SHIFT: Final = np.uint64(PAGE_SHIFT)
_ONE: Final = np.uint64(1)


def ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges from pairs of addresses."""
    listed = list(pairs)
    return np.array(listed, np.uint64).reshape(-1, 2) if listed else NO_RANGES


def count_pages(of: Ranges) -> int:
    """How many pages the ranges cover, overlaps counted twice."""
    return int((of[:, 1] - of[:, 0]).sum()) >> PAGE_SHIFT if len(of) else 0


def expand(of: Ranges) -> Pages:
    """The page numbers of ranges, in the ranges' order (ascending if they are ascending and apart)."""
    if not len(of):
        return NO_PAGES
    first = of[:, 0] >> _SHIFT
    lengths = (of[:, 1] >> _SHIFT) - first
    before = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    return np.repeat(first - before, lengths.astype(np.int64)) + np.arange(total, dtype=np.uint64)


def collapse(pages: Pages) -> Ranges:
    """The ranges that ascending pages form."""
    if not len(pages):
        return NO_RANGES
    breaks = np.flatnonzero(pages[1:] != pages[:-1] + _ONE)
    found = np.empty((len(breaks) + 1, 2), np.uint64)
    found[0, 0] = pages[0]
    found[1:, 0] = pages[breaks + 1]
    found[:-1, 1] = pages[breaks] + _ONE
    found[-1, 1] = pages[-1] + _ONE
    found <<= _SHIFT
    return found


def merge(of: Ranges, gap_bytes: int = 0) -> Ranges:
    """The same addresses as ascending ranges that neither overlap nor touch; gaps up to `gap_bytes` are filled."""
    if len(of) < 2:
        return np.ascontiguousarray(of[:, :2])
    order = np.argsort(of[:, 0], kind="stable")
    starts, ends = of[order, 0], np.maximum.accumulate(of[order, 1])
    new = np.empty(len(of), np.bool_)
    new[0] = True
    np.greater(starts[1:], ends[:-1] + np.uint64(gap_bytes), out=new[1:])
    heads = np.flatnonzero(new)
    merged = np.empty((len(heads), 2), np.uint64)
    merged[:, 0] = starts[heads]
    merged[:, 1] = ends[np.append(heads[1:] - 1, len(of) - 1)]
    return merged


def inside(pages: Pages, allowed: Ranges) -> Mask:
    """For each page whether it lies in one of the ranges, which must be ascending and apart."""
    if not len(allowed):
        return np.zeros(len(pages), np.bool_)
    addresses = pages << _SHIFT
    at = np.searchsorted(allowed[:, 0], addresses, "right").astype(np.int64) - 1
    found: Mask = (at >= 0) & (addresses < allowed[np.maximum(at, 0), 1])
    return found


def clip(of: Ranges, start: int, end: int) -> Ranges:
    """The parts of the ranges between two addresses."""
    if not len(of):
        return NO_RANGES
    clipped = np.empty((len(of), 2), np.uint64)
    np.maximum(of[:, 0], np.uint64(start), out=clipped[:, 0])
    np.minimum(of[:, 1], np.uint64(end), out=clipped[:, 1])
    return clipped[clipped[:, 0] < clipped[:, 1]]


def intersect(of: Ranges, allowed: Ranges) -> Ranges:
    """The addresses that are in both; `allowed` must be ascending and apart. Ascending if `of` is."""
    if not len(of) or not len(allowed):
        return NO_RANGES
    first = np.searchsorted(allowed[:, 1], of[:, 0], "right").astype(np.int64)
    last = np.searchsorted(allowed[:, 0], of[:, 1], "left").astype(np.int64)
    counts = np.maximum(last - first, 0)
    mine = np.repeat(np.arange(len(of)), counts)
    before = np.cumsum(counts) - counts
    other = np.repeat(first - before, counts) + np.arange(int(counts.sum()))
    found = np.empty((len(mine), 2), np.uint64)
    np.maximum(of[mine, 0], allowed[other, 0], out=found[:, 0])
    np.minimum(of[mine, 1], allowed[other, 1], out=found[:, 1])
    return found


def outside(of: Ranges, start: int, end: int) -> Ranges:
    """The gaps between ascending, separate ranges within [start, end)."""
    edges = np.concatenate((np.array([start], np.uint64), clip(of, start, end).reshape(-1), np.array([end], np.uint64)))
    gaps = edges.reshape(-1, 2)
    return gaps[gaps[:, 0] < gaps[:, 1]]


def join(several: Iterable[Ranges]) -> Ranges:
    """All ranges of several arrays, one behind the other, without further columns."""
    listed = [item[:, :2] for item in several if len(item)]
    if not listed:
        return NO_RANGES
    return np.ascontiguousarray(listed[0]) if len(listed) == 1 else np.concatenate(listed)


def union(several: Iterable[Pages]) -> Pages:
    """The pages that are in any of several arrays, ascending."""
    listed = [item for item in several if len(item)]
    if not listed:
        return NO_PAGES
    return np.unique(np.concatenate(listed))
