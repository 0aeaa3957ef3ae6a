"""Whole programs, checkpoint after checkpoint: image and mirror are the memory, byte by byte."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from agent.context.memory import MemoryCapture
from agent.memory.image import Image
from agent.memory.page_ranges import PAGE_BYTES
from agent.memory.sighting import Sighting
from agent.memory.tracking import Dirty, DirtyTracker
from agent.scout.scout import Scout
from tests.agent.scouting import PatientScout
from tests.agent.twin import Twin, differences, of_image
from tests.agent.victim import PYTHON, SOURCES, Puppet, build, running

IMAGE_BYTES = 1 << 30


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("victims")


@contextmanager
def captured(victim: Puppet, scout: Scout | None = None) -> Iterator[MemoryCapture]:
    capture = MemoryCapture(victim.pid, victim.take_uffd(), Image(IMAGE_BYTES), scout)
    try:
        yield capture
    finally:
        capture.close()


def mirror(victim: Puppet, capture: MemoryCapture, checkpoints: int, *, look_every: int, seed: int) -> list[str]:
    """Take checkpoints, some of them abandoned, of a running program; gives all that was ever wrong."""
    twin, image, dice, wrong = Twin(), capture.image, random.Random(seed), []
    victim.stop()
    capture.attach()
    victim.resume()
    for part in capture.fill(1):
        twin.apply(part)
    twin.layout = capture.tracker.space.areas
    for number in range(1, checkpoints + 1):
        for _ in range(dice.randrange(3)):
            capture.precopy()
        victim.stop()
        try:
            capture.ask_scout()
            taken = capture.copy_stopped()
            if dice.random() < 0.15:
                taken.abandon()
                continue
            twin.take(taken, image, number)
            if number % look_every == 0 or number == checkpoints:
                wrong += differences(victim.pid, taken.areas, of_image(image, image.pages_known()))
                wrong += differences(victim.pid, taken.areas, twin.pages)
        finally:
            victim.resume()
    return wrong


@pytest.fixture
def scout() -> Iterator[PatientScout]:
    scout = PatientScout()
    with scout:
        yield scout


@pytest.mark.parametrize("seed", [1, 2])
def test_a_program_that_does_everything_to_its_memory(built: Path, seed: int) -> None:
    with running([str(build("churn.c")), str(seed), "200"], built) as victim, captured(victim) as capture:
        assert mirror(victim, capture, 30, look_every=10, seed=seed) == []


def test_a_program_that_does_everything_to_its_memory_while_a_scout_looks(built: Path, scout: PatientScout) -> None:
    with running([str(build("churn.c")), "3", "200"], built) as victim, captured(victim, scout) as capture:
        assert mirror(victim, capture, 30, look_every=10, seed=5) == []


def test_python_with_threads_that_map_and_unmap(built: Path, scout: PatientScout) -> None:
    with running([PYTHON, str(SOURCES / "churn.py"), "6"], built) as victim, captured(victim, scout) as capture:
        assert mirror(victim, capture, 80, look_every=10, seed=3) == []
    assert scout.answers


class Load:
    """Writes to a redis-server until it is told to stop."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def populate(self, keys: int) -> None:
        self._connection.sendall(f"DEBUG POPULATE {keys} key 100\r\n".encode())
        assert self._connection.recv(100) == b"+OK\r\n"

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        dice = random.Random(1)
        while not self._ended.is_set():
            commands = [
                f"SET key:{dice.randrange(50000)} {dice.getrandbits(8 * dice.randrange(1, 400))}" for _ in range(50)
            ]
            commands += [f"LPUSH list {dice.random()}", f"DEL key:{dice.randrange(50000)}", "LTRIM list 0 1000"]
            self._connection.sendall("\r\n".join(commands).encode() + b"\r\n")
            left = len(commands)
            while left:
                left -= self._connection.recv(65536).count(b"\r\n")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_redis_under_load(built: Path, scout: PatientScout) -> None:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--enable-debug-command", "yes"]
    with running(command, built, ready=b"Ready to accept") as victim, captured(victim, scout) as capture:
        load = Load(port)
        load.populate(100_000)
        with load:
            assert mirror(victim, capture, 60, look_every=20, seed=4) == []
    assert scout.answers > 10


class Forgetful(DirtyTracker):
    """Loses one dirty page in each stop, on purpose."""

    lost = 0

    def scan_stopped(self, sighting: Sighting | None = None) -> Dirty:
        dirty = super().scan_stopped(sighting)
        written = dirty.all_written()
        if len(written):
            written[0, 0] += np.uint64(PAGE_BYTES)
            dirty.written = [written[written[:, 0] < written[:, 1]]]
            self.lost += 1
        return dirty


def test_a_dirty_page_that_is_dropped_on_purpose_is_noticed(built: Path) -> None:
    with running([str(build("churn.c")), "9", "200"], built) as victim, captured(victim) as capture:
        tracker = capture.tracker
        tracker.__class__ = Forgetful
        assert isinstance(tracker, Forgetful)
        wrong = mirror(victim, capture, 10, look_every=1, seed=9)
        assert tracker.lost
    assert wrong
