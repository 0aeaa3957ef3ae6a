"""A context says where it comes from, and a node that is not alike refuses it in one line."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.context.layout import Area
from agent.context.origin import KEY, OriginCapture, require_same_origin
from agent.preflight.fingerprint import Fingerprint
from transport.checkpoint import Records
from transport.errors import PreflightError

XSTATE = 2688


def area(path: str | os.PathLike[str]) -> Area:
    """A mapping of a file."""
    return Area(0x1000, 0x2000, 1, False, "file", os.fspath(path), inode=1)


def changed(records: Records, **facts: object) -> Records:
    """The record of a node that differs in these facts."""
    found = replace(Fingerprint.from_json(records[KEY].decode(), "here"), **facts)  # type: ignore[arg-type]
    return {KEY: found.to_json().encode()}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A file that the program has mapped."""
    path = tmp_path / "lib.so"
    path.write_bytes(b"code")
    return path


def test_the_node_itself_is_like_itself(library: Path) -> None:
    records = OriginCapture("p", "d").capture([area(library)], XSTATE)
    require_same_origin(records, "p", "d")


def test_unchanged_state_has_identical_bytes_and_new_files_are_added(library: Path, tmp_path: Path) -> None:
    origin = OriginCapture("p", "d")
    first = origin.capture([area(library)], XSTATE)
    assert origin.capture([area(library)], XSTATE) == first
    other = tmp_path / "other.so"
    other.write_bytes(b"more")
    both = Fingerprint.from_json(origin.capture([area(library), area(other)], XSTATE)[KEY].decode(), "here")
    assert set(both.files) == {str(library), str(other)}
    assert origin.capture([area(library)], XSTATE) == first


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"kernel": "5.10.0"}, "the kernel release differs"),
        ({"cpu_flags": ("fpu",)}, "CPU features"),
        ({"definition": "other"}, r"the program.toml differs"),
    ],
)
def test_another_kind_of_node_is_refused_by_name(library: Path, facts: dict[str, object], named: str) -> None:
    records = OriginCapture("p", "d").capture([area(library)], XSTATE)
    with pytest.raises(PreflightError, match=named) as caught:
        require_same_origin(changed(records, **facts), "p", "d")
    assert caught.value.hint


def test_another_version_of_a_library_is_refused(library: Path) -> None:
    records = OriginCapture("p", "d").capture([area(library)], XSTATE)
    library.write_bytes(b"other code")
    with pytest.raises(PreflightError, match=r"lib.so differs"):
        require_same_origin(records, "p", "d")
    library.unlink()
    with pytest.raises(PreflightError, match="is not on this node"):
        require_same_origin(records, "p", "d")


def test_a_context_that_does_not_say_is_refused() -> None:
    with pytest.raises(PreflightError, match="does not say"):
        require_same_origin({}, "p", "d")
