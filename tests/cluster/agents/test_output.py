"""Lines of a file that grows, is cut, and is replaced."""

from __future__ import annotations

from pathlib import Path

from cluster.agents.output import LINE_BYTES_MAX, READ_BYTES, OutputTail


def test_lines_are_told_whole_and_once(tmp_path: Path) -> None:
    path, told = tmp_path / "log", list[str]()
    path.write_text("before\n")
    tail = OutputTail(path, told.append)
    tail.read()
    assert told == []
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        tail.read()
        assert told == ["one"]
        file.write("o\r\n\xff\n")
        file.flush()
        tail.read()
    assert told == ["one", "two", "\xff"]
    tail.read()
    assert len(told) == 3


def test_a_file_that_comes_later_is_cut_or_replaced(tmp_path: Path) -> None:
    path, told = tmp_path / "log", list[str]()
    tail = OutputTail(path, told.append)
    tail.read()
    path.write_text("first\n")
    tail.read()
    path.write_text("2\n")
    tail.read()
    (tmp_path / "other").write_text("third, in another file\n")
    (tmp_path / "other").rename(path)
    tail.read()
    assert told == ["first", "2", "third, in another file"]


def test_a_line_without_an_end_is_told_in_pieces(tmp_path: Path) -> None:
    path, told = tmp_path / "log", list[str]()
    tail = OutputTail(path, told.append)
    path.write_text("x" * (2 * READ_BYTES))
    for _ in range(3):
        tail.read()
    assert "".join(told) == "x" * (2 * READ_BYTES)
    assert len(told) == 2
    assert READ_BYTES > LINE_BYTES_MAX
