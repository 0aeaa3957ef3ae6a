"""Who but root can write a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from transport.trust import other_writer


@pytest.mark.parametrize(
    ("user", "group", "mode", "writer"),
    [
        (0, 0, 0o755, ""),
        (0, 0, 0o775, ""),
        (0, 7, 0o755, ""),
        (0, 7, 0o775, "its group"),
        (0, 0, 0o757, "everybody"),
        (0, 7, 0o777, "everybody"),
        (7, 0, 0o700, "its owner"),
        (7, 0, 0o500, "its owner"),
    ],
)
def test_who_can_write(tmp_path: Path, user: int, group: int, mode: int, writer: str) -> None:
    file = tmp_path / "file"
    file.touch()
    os.chown(file, user, group)
    file.chmod(mode)
    assert other_writer(file.stat()) == writer
