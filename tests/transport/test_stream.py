"""Random schedules of a primary and two mirrors: what is applied was published, whole, and all comes to rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.stream_simulation import Simulation, Violation
from transport.checkpoint import Header, Version
from transport.messages import Begin, End, Pages, RecordsMessage, StreamMessage
from transport.session import MirrorSession

Sabotage = Callable[[list[StreamMessage]], list[StreamMessage]]


def _flip(messages: list[StreamMessage]) -> list[StreamMessage]:
    """Damage the first part behind the frame's checksum."""
    for at, message in enumerate(messages):
        if isinstance(message, Pages):
            part = bytearray(message.part)
            part[len(part) // 2] ^= 4
            messages[at] = Pages(bytes(part))
            break
    return messages


def _omit_part(messages: list[StreamMessage]) -> list[StreamMessage]:
    return [m for at, m in enumerate(messages) if not (isinstance(m, Pages) and at == 1)]


def _omit_records(messages: list[StreamMessage]) -> list[StreamMessage]:
    return [m for m in messages if not isinstance(m, RecordsMessage)]


def _omit_all(messages: list[StreamMessage]) -> list[StreamMessage]:
    return []


def _omit_end(messages: list[StreamMessage]) -> list[StreamMessage]:
    return [m for m in messages if not isinstance(m, End)]


def _twice(messages: list[StreamMessage]) -> list[StreamMessage]:
    return messages + messages


def _backwards(messages: list[StreamMessage]) -> list[StreamMessage]:
    return messages[::-1]


def _old_token(messages: list[StreamMessage]) -> list[StreamMessage]:
    return [Begin(_aged(m.header)) if isinstance(m, Begin) else m for m in messages]


def _aged(header: Header) -> Header:
    version = Version(header.version.token - 1, header.version.number, header.version.digest)
    return Header(header.program, version, header.base, 0, header.pages, header.parts, False, header.kind)


SABOTAGE: dict[str, Sabotage] = {
    f.__name__: f for f in (_flip, _omit_part, _omit_records, _omit_all, _omit_end, _twice, _backwards, _old_token)
}
FAULTS = [f"{kind}-{way}" for kind in ("corrupt", "replay", "lose", "reorder", "stale") for way in ("down", "up")]

mirrors = st.integers(0, 1)
actions = st.one_of(
    st.just(("capture",)),
    st.tuples(st.sampled_from(["connect", "stream", "apply", "cut"]), mirrors),
    st.tuples(st.sampled_from(["deliver_down", "deliver_up"]), mirrors, st.integers(1, 12)),
)
troubles = st.one_of(
    st.tuples(st.just("fault_on_wire"), mirrors, st.sampled_from(FAULTS)),
    st.tuples(st.just("sabotage"), st.sampled_from(sorted(SABOTAGE))),
    st.tuples(st.sampled_from(["apply_failure", "stage_failure"]), mirrors),
    st.just(("promote",)),
)


def run(simulation: Simulation, schedule: list[tuple[object, ...]]) -> None:
    """Perform a schedule; the checker looks after every action."""
    for name, *arguments in schedule:
        simulation.now += 1
        match name, arguments:
            case "deliver_down" | "deliver_up", [index, int(count)]:
                for _ in range(count):
                    getattr(simulation, str(name))(index)
                    simulation.check()
            case "sabotage", [kind]:
                simulation.primary.saboteur = _once(simulation, SABOTAGE[str(kind)])
            case _:
                getattr(simulation, str(name))(*arguments)
        simulation.check()
    simulation.settle()
    for mirror in simulation.mirrors:
        assert mirror.session.applied == simulation.primary.publisher.latest


def _once(simulation: Simulation, sabotage: Sabotage) -> Sabotage:
    def act(messages: list[StreamMessage]) -> list[StreamMessage]:
        simulation.primary.saboteur = None
        return sabotage(messages)

    return act


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.lists(actions, max_size=60))
def test_without_faults_nothing_is_refused(seed: int, settled: bool, schedule: list[tuple[object, ...]]) -> None:
    simulation = _started(seed, settled)
    run(simulation, schedule)
    assert [mirror.session.counters.total for mirror in simulation.mirrors] == [0, 0]
    assert simulation.primary_counters.total == 0


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.lists(st.one_of(actions, actions, troubles), max_size=80))
def test_whatever_goes_wrong_only_published_states_are_applied(
    seed: int, settled: bool, schedule: list[tuple[object, ...]]
) -> None:
    run(_started(seed, settled), schedule)


def test_a_mirror_that_never_got_what_uses_up_its_credit_is_dropped_and_begins_anew() -> None:
    silent: list[tuple[object, ...]] = [("sabotage", "_omit_all"), ("capture",)]
    run(_started(0, settled=True), silent * 2)


def _started(seed: int, settled: bool, make: Callable[..., MirrorSession] = MirrorSession) -> Simulation:
    """Return a simulation; settled: both mirrors follow already, so that a schedule goes deep."""
    simulation = Simulation(seed, make)
    if settled:
        simulation.settle()
    return simulation


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("_flip", "corrupt"),
        ("_omit_part", "incomplete"),
        ("_omit_records", "incomplete"),
        ("_omit_all", "wrong_base"),
        ("_omit_end", "wrong_base"),
        ("_twice", "wrong_base"),
        ("_backwards", "unexpected"),
        ("_old_token", "stale_token"),
    ],
)
def test_each_sabotage_is_counted_and_healed(kind: str, reason: str) -> None:
    simulation = _following(MirrorSession)
    simulation.primary.saboteur = _once(simulation, SABOTAGE[kind])
    simulation.primary.capture({1: b"x" * 4096}, {"fd/1": b"b"})
    simulation.settle()
    assert simulation.mirrors[0].session.counters.by_reason()[reason] == 1
    assert simulation.mirrors[0].session.counters.total == 1
    assert simulation.mirrors[0].session.applied == simulation.primary.publisher.latest


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("corrupt", "corrupt"), ("replay", "replayed"), ("lose", "skipped"), ("stale", "stale_token")],
)
def test_each_fault_on_the_wire_is_counted_and_healed(kind: str, reason: str) -> None:
    simulation = _following(MirrorSession)
    simulation.promote()
    simulation.connect(0)
    simulation.settle_one(0)
    simulation.primary.capture({1: b"x" * 4096}, {})
    simulation.fault_on_wire(0, f"{kind}-down", at=0)
    simulation.settle_one(0)
    assert simulation.mirrors[0].session.counters.by_reason()[reason] == 1
    assert simulation.mirrors[0].session.counters.total == 1
    assert simulation.mirrors[0].session.applied == simulation.primary.publisher.latest


class Gullible(MirrorSession):
    """A session that does not look at what a checkpoint builds on."""

    def _follows(self, header: Header) -> bool:
        return True


def test_the_checker_sees_a_session_without_the_check_of_the_base() -> None:
    simulation = _following(Gullible)
    simulation.primary.saboteur = _once(simulation, _omit_all)
    simulation.primary.capture({1: b"x" * 4096}, {"fd/1": b"a"})
    simulation.primary.capture({2: b"y" * 4096}, {"fd/1": b"a"})
    with pytest.raises(Violation, match="memory that was not published"):
        simulation.settle()


def _following(make: Callable[..., MirrorSession]) -> Simulation:
    """Return a simulation in which the first mirror is up to date after a full transfer."""
    simulation = Simulation(0, make)
    simulation.primary.capture({page: bytes([page + 1]) * 4096 for page in range(8)}, {"fd/1": b"a"})
    simulation.connect(0)
    simulation.settle_one(0)
    assert simulation.mirrors[0].session.applied == simulation.primary.publisher.latest
    return simulation
