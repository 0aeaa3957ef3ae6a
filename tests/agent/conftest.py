"""What several tests of the agent need."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.context.layout import Area
from agent.launch.spawner import Spawner
from agent.mirror.shadow import Shadow
from tests.agent.plain_copy import NUMBER


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    """A spawner that has been started; SIGCHLD is blocked meanwhile."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with Spawner() as started:
        yield started
    signal.pthread_sigmask(signal.SIG_SETMASK, old)


@pytest.fixture
def blank(spawner: Spawner) -> Iterator[Shadow]:
    """A shadow that has one mapping of its own, and no descriptors."""
    area = Area(1 << 32, (1 << 32) + 16 * 4096, 3, False, "anonymous")
    shadow = Shadow.create(spawner, NUMBER, [area], None)
    yield shadow
    shadow.destroy()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix=f"kgm-{os.getpid()}-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "output").touch()
        yield path
