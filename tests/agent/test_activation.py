"""A program is killed and goes on in its shadow; it judges for itself."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.spawner import Spawner
from tests.agent.plain_copy import Original, await_line, build, compiled, launch, pump, take_over


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with Spawner() as started:
        yield started
    signal.pthread_sigmask(signal.SIG_SETMASK, old)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix=f"kgm-{os.getpid()}-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "output").touch()
        yield path


def continued(spawner: Spawner, original: Original, output: Path, go: Path) -> int:
    """Kill the program, let its shadow go on, and give its exit code."""
    image = original.image()
    shadow = build(spawner, image)
    try:
        original.kill()
        take_over(shadow, image, output)
        go.touch()
        await_line(output, "PASS", "FAIL")
        ended = pump(lambda ended: shadow.pid in ended)
        return os.waitstatus_to_exitcode(ended[shadow.pid])
    finally:
        shadow.destroy()


@pytest.mark.parametrize(
    "command", [("threads",), ("signals",), ("timers",), ("process",), ("process", "65534")], ids=" ".join
)
def test_a_program_goes_on(command: tuple[str, ...], spawner: Spawner, place: Path) -> None:
    name, *arguments = command
    path, go, output = compiled(name, place), place / "go", place / "output"
    original = launch(spawner, path, str(go), *arguments, output=output)
    try:
        await_line(output, "ready")
        original.stop()
        code = continued(spawner, original, output, go)
        assert await_line(output, "PASS", "FAIL") == "PASS", output.read_text()
        assert code == 7
    finally:
        original.kill()
