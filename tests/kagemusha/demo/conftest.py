"""Machines for a test, in a directory of the tests' own, removed afterwards and by the next run after a crash."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagemusha.demo.nodes import Directory, Machines, clear_crashed_runs
from tests.leftovers import DEMO_RUNS

RUNS = DEMO_RUNS


@pytest.fixture
def runs() -> Path:
    """Where the tests' runs have their directories; nothing of a crashed one is left."""
    clear_crashed_runs(RUNS)
    return RUNS


@pytest.fixture
def directory(runs: Path) -> Iterator[Directory]:
    """The directory of one run."""
    # Eight digits alone would be the pid of a run that is gone.
    directory = Directory(f"t{uuid.uuid4().hex[:7]}", runs)
    yield directory
    directory.close(keep=False)


@pytest.fixture
def machines(directory: Directory) -> Iterator[Machines]:
    """Two nodes and a client on a bridge."""
    machines = Machines(directory)
    yield machines
    machines.close()
