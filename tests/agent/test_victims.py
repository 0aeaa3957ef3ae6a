"""Every kind of resource over two takeovers in a row, judged by the program that has it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.errors import CheckpointAbandoned
from agent.launch.spawner import Spawner
from agent.mirror.takeover import trace
from agent.primary.context_capture import ContextCapture
from tests.agent.takeover import VICTIMS, local, subject
from transport.checkpoint import Records

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


@pytest.mark.parametrize("name", NAMES)
def test_a_victim_passes_after_its_last_gasp(name: str, spawner: Spawner, place: Path) -> None:
    with subject(spawner, name, place) as running:
        running.take_over_from_last_gasp()
        assert running.verdict() == "PASS"


@pytest.mark.parametrize("name", NAMES)
def test_a_victim_does_not_notice_checkpoints(name: str, spawner: Spawner, place: Path) -> None:
    with subject(spawner, name, place) as running:
        tracee = trace(running.running.pid)
        capture = ContextCapture(tracee, local)
        running.running.seized.update(tracee.threads)
        previous: Records = {}
        try:
            for _ in range(40):
                try:
                    tracee.stop(time.monotonic() + 1.0)
                    previous = capture.capture(previous)
                except CheckpointAbandoned:
                    pass
                tracee.resume()
                tracee.pump()
            assert running.verdict(lambda: tracee.pump()) == "PASS"
            assert any(key.startswith("ofd/") for key in previous)
        finally:
            capture.close()
            tracee.close()


def test_stops_that_are_given_up_interrupt_no_call(spawner: Spawner, place: Path) -> None:
    with subject(spawner, "blocked", place) as running:
        tracee = trace(running.running.pid)
        running.running.seized.update(tracee.threads)
        try:
            for _ in range(60):
                try:
                    tracee.stop(time.monotonic())
                except CheckpointAbandoned:
                    pass
                tracee.resume()
                tracee.pump()
            assert running.verdict(lambda: tracee.pump()) == "PASS"
        finally:
            tracee.close()
