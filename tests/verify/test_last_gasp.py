"""A killed program gives its last state: every byte of it is in the mirror. Without that, something is missing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agent.errors import Unsupported
from agent.kernel.wait import await_child_signal_free
from agent.memory.verify import Verification, verify
from agent.mirror.double import ShadowDouble
from agent.primary import checkpointer as checkpointer_module
from agent.tracing.program_event import Dying
from tests.verify.pair import Pair, pair
from tests.verify.programs import PROGRAMS, Program

DEATH_S_MAX = 10.0
RUN_S = 0.2
_REDIS, _REMAPS = PROGRAMS[:2]


def kill(both: Pair) -> Dying:
    """kill -9, and wait until every thread is held on its way out."""
    os.kill(both.started.pid, signal.SIGKILL)
    until_s = time.monotonic() + DEATH_S_MAX
    while time.monotonic() < until_s:
        for event in both.tracee.pump():
            if isinstance(event, Dying):
                return event
        await_child_signal_free(0.01)
    raise AssertionError("the program does not die")


def compared(both: Pair) -> Verification:
    """The dying program and the shadow, byte by byte."""
    double = both.follower.double
    assert isinstance(double, ShadowDouble)
    own = double.shadow.trampoline
    return verify(both.started.pid, double.pid, own=[(own.address, own.end)])


@pytest.mark.parametrize("program", [_REDIS, _REMAPS], ids=lambda program: program.name)
def test_the_last_state_of_a_killed_program_is_in_the_mirror_to_the_last_byte(program: Program, tmp_path: Path) -> None:
    with pair(program, tmp_path) as both:
        assert both.first().equal
        assert both.next().equal
        both.run(RUN_S)
        death = kill(both)
        assert death.kind == "killed"
        # The negative control: what the mirror holds without it is not the last state.
        assert not compared(both).equal
        encoded = both.checkpointer.last_gasp()
        for message in encoded.messages():
            both.follower.event(message)
        assert both.refused == []
        assert encoded.header.final
        assert both.follower.version == encoded.header.version
        assert compared(both).equal


def test_a_thread_in_a_suspect_state_means_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(_REMAPS, tmp_path) as both:
        both.first()
        held = both.follower.version
        kill(both)
        monkeypatch.setattr(checkpointer_module, "suspect", lambda registers, is_regular_file: True)
        with pytest.raises(Unsupported, match="killed in the middle"):
            both.checkpointer.last_gasp()
        assert both.follower.version == held
