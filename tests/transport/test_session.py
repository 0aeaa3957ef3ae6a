"""What a mirror accepts, in which order it acts, and when it acknowledges; random schedules are in test_stream."""

from __future__ import annotations

from dataclasses import replace

import pytest

from transport.checkpoint import NOTHING, Header, Version, chain_digest
from transport.delta import RecordsPart, part_sum
from transport.messages import (
    Ack,
    Announce,
    Begin,
    Bye,
    End,
    Place,
    RecordsMessage,
    Sample,
    SampleHeld,
    StreamMessage,
)
from transport.session import (
    BACKLOG,
    Applied,
    ApplyFailed,
    Close,
    Commit,
    Connected,
    Connections,
    Discard,
    Disconnected,
    MirrorSession,
    Resync,
    Sampled,
    SendAck,
    SendRefuse,
    SendSubscribe,
    SessionEffect,
    Stage,
    StageFailed,
    StartOver,
)

PART = RecordsMessage(RecordsPart({"fd/1": b"a"}, ()).encode())
SUM = part_sum(PART.part)
START = Version(1, 1, 11)


def _delta(base: Version) -> tuple[Version, list[StreamMessage]]:
    """Return the version after `base` and the messages of a delta without pages that leads to it."""
    number = base.number + 1
    version = Version(base.token, number, chain_digest(base, base.token, number, [], SUM))
    header = Header("redis", version, base, number, 0, 0, False, "delta")
    return version, [Begin(header), PART, End(header, 1, SUM)]


def _full(version: Version) -> list[StreamMessage]:
    header = Header("redis", version, NOTHING, 1, 0, 0, False, "full")
    return [Begin(header), PART, End(header, 1, SUM)]


def _feed(session: MirrorSession, messages: list[StreamMessage]) -> list[SessionEffect]:
    return [effect for message in messages for effect in session.step(5, message)]


def _following() -> MirrorSession:
    session = MirrorSession("redis", 1, holds=START)
    assert session.step(0, Connected(1)) == [SendSubscribe(START)]
    return session


def _kinds(effects: list[SessionEffect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def test_a_full_transfer_and_then_a_delta() -> None:
    session = MirrorSession("redis", 1)
    session.step(0, Connected(1))
    full = _full(START)
    assert isinstance(full[0], Begin)
    header = full[0].header
    assert _feed(session, full) == [StartOver(header), Stage(PART, False), Commit(header), SendAck(START)]
    assert (session.holds, session.applied, session.last) == (START, NOTHING, header)
    assert session.step(0, Applied(START)) == []
    version, delta = _delta(START)
    assert _kinds(_feed(session, delta)) == ["Stage", "Commit", "SendAck"]
    assert (session.holds, session.applied, session.last_heard_ns) == (version, START, 5)


def test_acknowledgements_wait_for_an_apply_that_is_behind() -> None:
    session = _following()
    versions, acks = [START], []
    for _ in range(BACKLOG + 2):
        version, delta = _delta(versions[-1])
        versions.append(version)
        acks += [effect.version for effect in _feed(session, delta) if isinstance(effect, SendAck)]
    assert acks == versions[1 : BACKLOG + 1]
    assert session.step(0, Applied(versions[1])) == [SendAck(versions[BACKLOG + 1])]
    assert session.step(0, Applied(versions[2])) == [SendAck(versions[BACKLOG + 2])]


def _behind() -> tuple[MirrorSession, list[Version]]:
    """Return a session that has one more checkpoint to apply than BACKLOG, and the versions of all of them."""
    session = _following()
    versions = [START]
    for _ in range(BACKLOG + 1):
        version, delta = _delta(versions[-1])
        versions.append(version)
        _feed(session, delta)
    return session, versions[1:]


def test_what_acknowledges_by_the_way_waits_too() -> None:
    session, versions = _behind()
    assert session.step(0, Disconnected()) == []
    assert session.step(0, Connected(1)) == []
    assert session.step(0, Applied(versions[0])) == [SendSubscribe(versions[-1])]
    session, versions = _behind()
    assert session.step(0, PART) == []
    assert session.step(0, Applied(versions[0])) == [
        SendRefuse(versions[-1], "a part came before its checkpoint began")
    ]


def test_a_failed_apply_before_the_subscription_changes_what_it_says() -> None:
    session, versions = _behind()
    session.step(0, Connected(1))
    effects = session.step(0, ApplyFailed(versions[0], "no memory"))
    assert _kinds(effects) == ["Resync", "SendSubscribe"]
    assert effects[-1] == SendSubscribe(NOTHING)
    session, versions = _behind()
    session.step(0, PART)
    assert _kinds(session.step(0, ApplyFailed(versions[0], "no memory"))) == ["Resync", "SendRefuse"]
    assert session.step(0, Applied(versions[1])) == []


def test_one_refusal_and_then_deaf_until_the_answer() -> None:
    session = _following()
    second, delta = _delta(START)
    _, third = _delta(second)
    assert isinstance(delta[2], End)
    delta[2] = replace(delta[2], sum=1)
    assert _kinds(_feed(session, delta)) == ["Stage", "Discard", "SendRefuse"]
    assert _feed(session, third) == []
    assert session.counters.total == session.counters.corrupt == 1
    header = Header("redis", Version(1, 3, 9), START, 3, 0, 0, False, "union")
    answer: list[StreamMessage] = [Begin(header), PART, End(header, 1, SUM)]
    assert _kinds(_feed(session, answer)) == ["Stage", "Commit", "SendAck"]


def test_a_delta_with_another_history_is_refused() -> None:
    session = _following()
    _, delta = _delta(START)
    assert isinstance(delta[0], Begin)
    header = replace(delta[0].header, version=Version(1, 2, 99))
    assert _kinds(_feed(session, [Begin(header), PART, End(header, 1, SUM)])) == ["Stage", "Discard", "SendRefuse"]
    assert session.counters.corrupt == 1


def test_a_lost_connection_throws_the_half_away() -> None:
    session = _following()
    version, delta = _delta(START)
    _feed(session, delta[:2])
    assert session.step(0, Disconnected()) == [Discard(blank=False)]
    assert session.step(0, Connected(1)) == [SendSubscribe(START)]
    assert _kinds(_feed(session, delta)) == ["Stage", "Commit", "SendAck"]
    assert session.holds == version


def test_half_of_a_full_transfer_leaves_nothing() -> None:
    session = _following()
    assert _kinds(_feed(session, _full(Version(1, 5, 5))[:2])) == ["StartOver", "Stage"]
    assert (session.holds, session.applied) == (NOTHING, NOTHING)
    assert session.step(0, Disconnected()) == [Discard(blank=True)]
    assert session.step(0, Connected(1)) == [SendSubscribe(NOTHING)]


def test_a_failed_apply_takes_all_that_builds_on_it_along() -> None:
    session = _following()
    second, delta = _delta(START)
    _feed(session, delta)
    _, third = _delta(second)
    _feed(session, third)
    effects = session.step(0, ApplyFailed(second, "no memory"))
    assert effects == [Resync(f"{second}: no memory"), SendRefuse(NOTHING, f"{second}: no memory")]
    assert (session.holds, session.applied) == (NOTHING, NOTHING)
    assert session.step(0, Applied(second)) == []
    assert session.step(0, ApplyFailed(second, "again")) == []
    assert session.counters.failed_apply == 1


@pytest.mark.parametrize(("damaged", "holds"), [(False, START), (True, NOTHING)])
def test_a_failed_stage(damaged: bool, holds: Version) -> None:
    session = _following()
    assert session.step(0, StageFailed("no memory", damaged)) == []
    _feed(session, _delta(START)[1][:2])
    effects = session.step(0, StageFailed("no memory", damaged))
    assert effects[0] == Discard(blank=False)
    assert effects[-1] == SendRefuse(holds, "no memory")


def test_a_lower_token_ends_the_connection() -> None:
    session = _following()
    session.step(0, Connected(3))
    (close,) = _feed(session, _delta(START)[1][:1])
    assert isinstance(close, Close)
    assert session.counters.stale_token == 1
    assert session.token == 3


def test_a_higher_token_is_taken_over_if_the_base_is_the_same() -> None:
    session = _following()
    version = Version(2, 2, chain_digest(START, 2, 2, [], SUM))
    header = Header("redis", version, START, 1, 0, 0, False, "delta")
    assert _kinds(_feed(session, [Begin(header), PART, End(header, 1, SUM)])) == ["Stage", "Commit", "SendAck"]
    assert session.token == 2


def test_another_program_ends_the_connection() -> None:
    session = _following()
    header = Header("nginx", Version(1, 2, 3), START, 1, 0, 0, False, "delta")
    (close,) = session.step(0, Begin(header))
    assert isinstance(close, Close)


@pytest.mark.parametrize("message", [PART, End(Header("redis", START, START, 0, 0, 0, False, "delta"), 1, 1)])
def test_what_comes_before_a_beginning_is_refused(message: StreamMessage) -> None:
    session = _following()
    assert _kinds(session.step(0, message)) == ["SendRefuse"]
    assert session.counters.unexpected == 1


def test_a_beginning_before_the_end_is_refused() -> None:
    session = _following()
    _, delta = _delta(START)
    _feed(session, delta[:2])
    assert _kinds(session.step(0, delta[0])) == ["Discard", "SendRefuse"]


def test_samples_pass_but_not_those_of_an_older_token() -> None:
    session = _following()
    place = Place("g_x", 4096, 8, ((0, 8),))
    sample = Sample("g_x", START, 1, 1, 0, b"", 1, b"s", b"s", b"data")
    assert session.step(0, place) == [Sampled(place)]
    assert session.step(0, sample) == [Sampled(sample)]
    session.step(0, Connected(START.token + 1))
    assert session.step(0, sample) == []
    assert session.counters.stale_token == 1
    assert isinstance(session.step(0, SampleHeld("g_x", 1, True))[0], Close)


def test_announcements_pass_and_a_bye_closes() -> None:
    session = _following()
    announce = Announce((("10.0.0.1", 1, "10.0.0.2", 2),), ())
    assert session.step(0, announce) == [Connections(announce)]
    assert session.step(0, Bye("done")) == [Close("done")]
    assert isinstance(session.step(0, Ack(START))[0], Close)
    assert session.counters.unexpected == 1
