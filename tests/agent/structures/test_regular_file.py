"""Shared memory of one program, in that of another."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import StructureError
from agent.structures import standstill
from agent.structures.capture import take
from agent.structures.regular_file import FileCapture, RegularFile
from agent.structures.update import Copy, Original, Update
from agent.structures.writer import Writer
from tests.agent.structures.built import built, running
from transport.delta import PagePartDecoder, PagePartEncoder

SIZE = 10001 * 8


def capture_of(path: Path) -> FileCapture:
    file = RegularFile(str(path), "book")
    return FileCapture(file, Original("book", file.size, PagePartEncoder()))


def taken(capture: FileCapture) -> Update | None:
    return next(iter(take([capture], standstill.none)), None)


def test_another_program_has_what_this_one_writes(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    program = built("shared.c")
    with (
        running(program, environment={"BOOK": str(here)}) as source,
        running(program, environment={"BOOK": str(there)}) as mirror,
    ):
        capture = capture_of(here)
        target = RegularFile(str(there), "book", writable=True)
        assert target.structure.size == SIZE
        writer = Writer(target.structure, target, Copy("book", SIZE, PagePartDecoder()), standstill.none)
        for index in (0, 511, 512, 10000):
            source.tell(f"w {index} {index + 1}")
            update = taken(capture)
            assert update is not None
            writer.apply(update)
            assert mirror.tell(f"r {index}") == str(index + 1)
            assert len(update.data) < 500
        assert taken(capture) is None
        assert here.read_bytes() == there.read_bytes()
        mirror.tell("w 600 9")
        assert writer.differs() == [(4800, 4801)]
        capture.close()
        writer.close()


def test_sizes_must_be_the_same(tmp_path: Path) -> None:
    for name, size in (("a", 5000), ("b", 6000)):
        (tmp_path / name).write_bytes(bytes(size))
    one, other = (RegularFile(str(tmp_path / name), "book") for name in ("a", "b"))
    with pytest.raises(StructureError, match="5000 bytes of unknown meaning at 0 here, and 6000 bytes"):
        one.structure.check_same(other.structure.lines)
    one.close()
    other.close()


def shorter(path: Path) -> None:
    os.truncate(path, 100)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(5000))
    other.rename(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [(shorter, "has 100 bytes, and had 5000"), (replaced, "is another file by now"), (Path.unlink, "No such file")],
)
def test_a_file_that_is_another_one_by_now_is_refused(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "book"
    path.write_bytes(bytes(5000))
    capture = capture_of(path)
    assert taken(capture) is not None
    change(path)
    with pytest.raises(StructureError, match=said):
        taken(capture)
    capture.close()


def test_a_file_that_is_cut_short_within_the_stop_ends_nobody(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_bytes(bytes(5000))
    capture = capture_of(path)
    capture.look()
    shorter(path)
    with pytest.raises(StructureError, match="has 100 bytes, and had 5000"):
        capture.copy()
    assert capture.update() is None
    capture.close()


def test_what_is_no_file_with_content_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for name, said in (("pipe", "no regular file"), ("empty", "is empty"), ("absent", "No such file")):
        with pytest.raises(StructureError, match=said):
            RegularFile(str(tmp_path / name))
