"""A program has the score that its file says, not that of the agent which starts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.launch import start as launching
from agent.launch.spawn_request import Launch
from agent.launch.spawner import Spawner
from agent.launch.start import start

NOBODY = 65534


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    """Its helper has the score 300: children inherit it, as those of an agent do."""
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    own.write_text("300")
    try:
        with Spawner() as found:
            yield found
    finally:
        own.write_text(before)


def score_of(spawner: Spawner, wanted: int | None) -> int:
    """The score of a program that was started with this one in its file."""
    launch = Launch("/bin/sleep", ("sleep", "100"), {}, user=NOBODY, group=NOBODY, oom_score=wanted)
    program = start(spawner, launch, settle_s=0.05)
    try:
        return int(Path(f"/proc/{program.pid}/oom_score_adj").read_text())
    finally:
        os.close(program.pidfd)
        spawner.end_namespace(program.init, [program.pid])


@pytest.mark.parametrize(("wanted", "score"), [(None, 300), (0, 0), (700, 700)])
def test_a_program_has_its_own(spawner: Spawner, wanted: int | None, score: int) -> None:
    assert score_of(spawner, wanted) == score


def test_what_the_machine_does_not_allow_is_said() -> None:
    what, hint = launching._explain("oom", 13, Launch("/bin/a", ("a",), {}, oom_score=-900))
    assert what == "can't set oom_score_adjust = -900"
    assert "CAP_SYS_RESOURCE" in hint
