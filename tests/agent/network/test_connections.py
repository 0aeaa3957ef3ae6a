"""What the first word of each client says about its connection; no network here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.network.connections import (
    Connections,
    Due,
    Effect,
    Expected,
    Finished,
    Heard,
    Poke,
    Probe,
    Reset,
    Verdict,
)

CONNECTION = ("10.0.0.7", 6379, "10.0.0.3", 40_000)
STRANGER = ("10.0.0.7", 6379, "10.0.0.3", 40_001)
EXPECTED = Expected(CONNECTION, unacknowledged=900, send_next=1000, receive_next=2000, clock=50_000)
ANSWER = Heard(CONNECTION, sequence=2000, acknowledgement=1000, data_bytes=0, echo=49_000)
WRAP = 1 << 32


def judge(heard: Heard, expected: Expected = EXPECTED) -> tuple[Verdict | None, list[Effect]]:
    connections = Connections([expected], [], outage_ms=200)
    assert connections.start(0) == []
    effects = connections.step(5, heard)
    return connections.verdicts.get(CONNECTION), effects


def test_who_is_where_the_record_is_survives() -> None:
    assert judge(ANSWER) == (Verdict.SURVIVED, [Finished()])


def test_who_has_not_heard_everything_survives() -> None:
    assert judge(replace(ANSWER, acknowledgement=950))[0] is Verdict.SURVIVED


def test_who_sends_again_what_the_record_has_survives() -> None:
    assert judge(replace(ANSWER, sequence=1990, data_bytes=10))[0] is Verdict.SURVIVED


def test_who_has_read_of_a_lost_future_is_reset_where_it_stands() -> None:
    assert judge(replace(ANSWER, acknowledgement=1001)) == (Verdict.RESET, [Reset(CONNECTION, 1001), Finished()])


def test_whose_data_a_lost_future_has_taken_is_reset() -> None:
    assert judge(replace(ANSWER, sequence=2001, echo=50_002)) == (Verdict.RESET, [Reset(CONNECTION, 1000), Finished()])


def test_whose_data_is_still_on_its_way_survives() -> None:
    assert judge(replace(ANSWER, sequence=2100, echo=49_999))[0] is Verdict.SURVIVED


def test_who_has_ended_it_is_not_told_so() -> None:
    assert judge(replace(ANSWER, reset=True)) == (Verdict.RESET, [Reset(CONNECTION, None), Finished()])


def test_an_attempt_to_connect_anew_decides_nothing() -> None:
    assert judge(replace(ANSWER, opening=True)) == (None, [])


def test_sequence_numbers_wrap() -> None:
    expected = replace(EXPECTED, send_next=WRAP - 5, receive_next=WRAP - 1, clock=WRAP - 1)
    fits = replace(ANSWER, sequence=WRAP - 1, acknowledgement=WRAP - 5)
    assert judge(fits, expected)[0] is Verdict.SURVIVED
    assert judge(replace(fits, acknowledgement=3), expected)[0] is Verdict.RESET
    assert judge(replace(fits, sequence=7, echo=4), expected)[0] is Verdict.RESET
    assert judge(replace(fits, sequence=7, echo=WRAP - 2), expected)[0] is Verdict.SURVIVED


@pytest.mark.parametrize("echo", [None, 50_000, 50_001], ids=["no timestamps", "same", "one more"])
def test_doubt_is_settled_by_a_repetition_or_by_time(echo: int | None) -> None:
    ahead = replace(ANSWER, sequence=2100, echo=echo)
    connections = Connections([EXPECTED], [], outage_ms=200)
    connections.start(0)
    assert connections.step(5, ahead) == []
    due_ms = connections.due_ms()
    assert due_ms == 705
    assert connections.step(704, Due()) == []
    assert connections.step(705, Due()) == [Reset(CONNECTION, 1000), Finished()]

    connections = Connections([EXPECTED], [], outage_ms=200)
    connections.start(0)
    connections.step(5, ahead)
    # The program may have spoken to it since, and been acknowledged.
    assert connections.step(6, replace(ahead, acknowledgement=1500)) == []
    assert connections.step(300, replace(ahead, sequence=2000, data_bytes=100)) == [Finished()]
    assert connections.verdicts == {CONNECTION: Verdict.SURVIVED}


def test_a_silent_client_is_asked_again_and_then_left_alone() -> None:
    connections = Connections([EXPECTED], [], outage_ms=200)
    connections.start(0)
    asked: list[tuple[float, Effect]] = []
    while (due_ms := connections.due_ms()) is not None:
        asked += [(due_ms, effect) for effect in connections.step(due_ms, Due())]
    probes = [due_ms for due_ms, effect in asked if effect == Probe(EXPECTED)]
    assert probes == [20, 100, 700, 1500]
    last_ms, last = asked[-1]
    assert last == Finished()
    assert last_ms == 3000
    assert connections.count(Verdict.SILENT) == 1


def test_strangers_are_poked_until_they_speak() -> None:
    connections = Connections([EXPECTED], [STRANGER, CONNECTION], outage_ms=200)
    assert connections.start(0) == [Poke(STRANGER)]
    assert connections.step(1, ANSWER) == []
    assert connections.step(20, Due()) == [Poke(STRANGER)]
    assert connections.step(25, replace(ANSWER, connection=STRANGER)) == [Finished()]
    assert connections.poked == 1
    assert connections.due_ms() is None


def test_strangers_who_are_away_are_forgotten() -> None:
    connections = Connections([], [STRANGER], outage_ms=0)
    effects = connections.start(0)
    while (due_ms := connections.due_ms()) is not None:
        effects += connections.step(due_ms, Due())
    assert effects == [Poke(STRANGER)] * 5 + [Finished()]


def test_nothing_to_decide_is_decided_at_once() -> None:
    assert Connections([], [], outage_ms=0).start(0) == [Finished()]
