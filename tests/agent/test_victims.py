"""Every kind of resource over two takeovers in a row, judged by the program that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.spawner import Spawner
from tests.agent.takeover import VICTIMS, subject

NAMES = sorted(path.stem for path in VICTIMS.glob("*.c"))


@pytest.mark.parametrize("name", NAMES)
def test_a_victim_passes_after_two_takeovers(name: str, spawner: Spawner, place: Path) -> None:
    with subject(spawner, name, place) as running:
        running.take_over()
        running.take_over()
        assert running.verdict() == "PASS"


@pytest.mark.parametrize("name", NAMES)
def test_a_victim_passes_without_a_takeover(name: str, spawner: Spawner, place: Path) -> None:
    with subject(spawner, name, place) as running:
        assert running.verdict() == "PASS"
