"""The short form of `make verify`, and the proof that it finds what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.memory.image import Image
from agent.memory.tracking import LARGE_BYTES
from agent.primary.encoding import CapturedMemory, Encoder, Part
from tests.verify.__main__ import verify_program
from tests.verify.pair import pair
from tests.verify.programs import LARGE, PROGRAMS, Program

SHORT = (*PROGRAMS[:-1], LARGE)
CHECKPOINTS = {LARGE.name: 3}
"""Ten of each of the others."""


@pytest.mark.parametrize("program", SHORT, ids=lambda program: program.name)
def test_every_byte_of_the_mirror_is_the_originals(program: Program) -> None:
    assert verify_program(program, CHECKPOINTS.get(program.name, 10)) == 0


def test_the_large_one_is_scanned_as_a_large_one() -> None:
    assert int(LARGE.name.split()[0]) << 20 > LARGE_BYTES


class ForgetsOnePage:
    """The memory of a checkpoint without the first page that has changed."""

    def __init__(self, memory: CapturedMemory) -> None:
        self._memory = memory

    def parts(self, image: Image, number: int) -> Iterable[Part]:
        """All parts, one of them a page short."""
        forgotten = False
        for pages, base, new, fresh in self._memory.parts(image, number):
            changed = np.flatnonzero((base != new).any(axis=1))
            kept = np.ones(len(pages), np.bool_)
            if len(changed) and not forgotten:
                forgotten = True
                kept[changed[0]] = False
            yield pages[kept], base[kept], new[kept], fresh[kept]


def test_a_dirty_page_that_is_dropped_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pair(PROGRAMS[2], tmp_path) as both:
        assert both.first().equal
        assert both.next().equal
        honest: Callable[..., Any] = Encoder.delta

        def forgetful(encoder: Encoder, memory: CapturedMemory, *rest: Any, **named: Any) -> Any:
            return honest(encoder, ForgetsOnePage(memory), *rest, **named)

        monkeypatch.setattr(Encoder, "delta", forgetful)
        found = both.next()
        assert len(found.differences) == 1
