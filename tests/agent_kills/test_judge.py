"""What counts as whole after an agent was killed, and what does not."""

from __future__ import annotations

from dataclasses import replace

from tests.agent_kills.kill import Kill

WHOLE = Kill(
    moment="stop",
    after_ms=1.0,
    ran_on=True,
    connections=20,
    survived=20,
    reset=0,
    hung=0,
    writes_acknowledged=1000,
    writes_lost=0,
    gap_ms=30.0,
    mirrored_s=2.0,
    found=0,
    problems=(),
)


def test_a_program_that_runs_on_loses_nothing_but_the_connection_that_was_read() -> None:
    assert WHOLE.kept
    assert replace(WHOLE, survived=19, reset=1, found=1).kept
    assert not replace(WHOLE, survived=18, reset=2, found=1).kept
    assert not replace(WHOLE, writes_lost=1).kept


def test_of_one_that_died_with_its_agent_a_mirror_goes_on() -> None:
    died = replace(WHOLE, ran_on=False, survived=3, reset=17, writes_lost=40)
    assert died.kept
    assert not replace(died, hung=1).kept


def test_a_reply_that_can_not_be_is_never_whole() -> None:
    assert not replace(WHOLE, problems=("key 1 has 7, and 9 was acknowledged",)).kept
    assert not replace(WHOLE, ran_on=False, problems=("key 1 has 7, and nobody wrote it",)).kept
