"""Which bytes of which blocks are mirrored, against a dumb twin that looks at every byte."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.structures.blocks import BLOCK_BYTES, Coverage

SIZE = 3 * BLOCK_BYTES + 1000


@st.composite
def extents(draw: st.DrawFn) -> NDArray[np.int64]:
    edges = sorted(draw(st.sets(st.integers(0, SIZE), min_size=2, max_size=60)))
    return np.array(edges[: len(edges) // 2 * 2], np.int64).reshape(-1, 2)


def twin(of: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each byte of all blocks whether it is mirrored."""
    found = np.zeros(4 * BLOCK_BYTES, np.bool_)
    for begin, end in of.tolist():
        found[begin:end] = True
    return found


@given(extents(), st.sets(st.integers(0, 3), min_size=1))
def test_clear_leaves_what_is_mirrored(of: NDArray[np.int64], chosen: set[int]) -> None:
    blocks = np.array(sorted(chosen), np.uint64)
    rows = np.full((len(blocks), 512), 2**64 - 1, np.uint64)
    Coverage(of, SIZE).clear(blocks, rows)
    wanted = np.where(twin(of).reshape(4, -1)[sorted(chosen)], 255, 0)
    assert (rows.view(np.uint8) == wanted).all()


@given(extents(), st.sets(st.integers(0, 3), min_size=1))
def test_pieces_are_what_is_mirrored_and_where(of: NDArray[np.int64], chosen: set[int]) -> None:
    blocks = np.array(sorted(chosen), np.uint64)
    content = np.random.default_rng(1).integers(0, 256, (4, BLOCK_BYTES), np.uint8)
    ranges, pieces = Coverage(of, SIZE).pieces(blocks, content[sorted(chosen)].view(np.uint64))
    target = np.zeros(4 * BLOCK_BYTES, np.uint8)
    at = 0
    for begin, end in ranges.tolist():
        target[begin:end] = pieces[at : at + end - begin]
        at += end - begin
    assert at == len(pieces)
    mask = twin(of).reshape(4, -1)
    mask[[block for block in range(4) if block not in chosen]] = False
    assert (target.reshape(4, -1) == np.where(mask, content, 0)).all()


@given(extents(), st.integers(1, 1 << 30))
def test_pages_are_those_that_hold_a_mirrored_byte(of: NDArray[np.int64], address: int) -> None:
    wanted = {
        page for begin, end in of.tolist() for page in range((address + begin) >> 12, ((address + end - 1) >> 12) + 1)
    }
    found = Coverage(of, SIZE).pages(address)
    assert {page for begin, end in found.tolist() for page in range(begin >> 12, end >> 12)} == wanted
    assert (found[1:, 0] > found[:-1, 1]).all()
