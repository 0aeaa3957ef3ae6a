"""Timers keep their deadlines, whatever the kernel can be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.context import timers
from agent.context.clocks import CLOCK_MONOTONIC, ProgramClocks
from agent.context.record import pack, unpack
from agent.context.timers import KEY, TimerCapture, TimersRecord, remaining
from agent.errors import RestoreError
from agent.kernel import procfs
from agent.launch.spawner import Spawner
from agent.mirror.shadow import Shadow
from agent.tracing.stopped import Stopped
from tests.agent.plain_copy import await_line, built, launch
from transport.checkpoint import Records

_NONE = ((0, 0),) * 3
_SECOND_NS = 1_000_000_000


@given(st.integers(1, 1 << 50), st.integers(1, 1 << 40), st.integers(0, 1 << 51))
def test_a_periodic_timer_keeps_its_beat(due_ns: int, interval_ns: int, now_ns: int) -> None:
    left_ns = remaining(due_ns, interval_ns, now_ns)
    assert left_ns > 0
    assert (now_ns + left_ns - due_ns) % interval_ns == 0
    assert left_ns <= max(interval_ns, due_ns - now_ns)


def test_one_that_is_overdue_fires_at_once() -> None:
    assert remaining(100, 0, 5000) == 1
    assert remaining(6000, 0, 5000) == 1000


def test_a_deadline_is_the_same_as_long_as_it_may_be() -> None:
    assert timers.due((0, 0), 1_000_000_000, 1_000_100_000, 0) == 1_000_100_000
    assert timers.due((1_000_100_000, 0), 1_000_000_000, 1_000_090_000, 0) == 1_000_100_000
    assert timers.due((999_900_000, 0), 1_000_000_000, 1_000_090_000, 0) == 999_900_000
    assert timers.due((1_000_100_000, 0), 1_010_000_000, 1_010_090_000, 0) == 1_010_090_000
    assert timers.due((1_000_100_000, 5), 1_000_000_000, 1_000_090_000, 0) == 1_000_090_000


@given(st.integers(1, 1 << 40), st.integers(10_000_000, 1 << 40), st.integers(0, 1 << 20), st.integers(0, 400_000))
def test_a_periodic_timer_is_known_by_its_beat(due_ns: int, interval_ns: int, beats: int, off_ns: int) -> None:
    beat_ns = due_ns + beats * interval_ns
    assert timers.due((due_ns, interval_ns), beat_ns - off_ns, beat_ns, interval_ns) == due_ns
    assert timers.due((due_ns, interval_ns), beat_ns, beat_ns + off_ns, interval_ns) == due_ns
    other_ns = beat_ns + interval_ns // 2
    assert timers.due((due_ns, interval_ns), other_ns, other_ns, interval_ns) == other_ns


def _records(*created: tuple[int, int, int, int, int, int, int, int]) -> Records:
    return {KEY: pack(TimersRecord(_NONE, created))}


@pytest.mark.parametrize("restores_ids", [True, False])
def test_timers_get_their_ids_on_every_kernel(restores_ids: bool, blank: Shadow) -> None:
    if restores_ids and not blank.restores_timer_ids:
        pytest.xfail("needs Linux 6.15")
    blank.restores_timer_ids = restores_ids
    due_ns = blank.clocks.now_ns(CLOCK_MONOTONIC) + 1000 * _SECOND_NS
    batch = blank.batch()
    timers.activate(
        blank, _records((3, 1, 0, 10, 0, 4711, due_ns, 5), (6, 7, 1, 0, 0, 0, 0, 0), (9, 2, 4, 34, 77, 1, 50, 0)), batch
    )
    batch.run()
    listed = sorted(procfs.timers(blank.pid), key=lambda timer: timer["ID"])
    # The kernel shows the CPU time of the process itself as -6.
    assert [(timer["ID"], timer["ClockID"]) for timer in listed] == [("3", "1"), ("6", "7"), ("9", "-6")]
    assert listed[0]["signal"].startswith("10/")
    assert int(listed[0]["signal"].partition("/")[2], 16) == 4711
    assert [timer["notify"].partition("/")[0] for timer in listed] == ["signal", "none", "signal"]
    assert listed[2]["notify"] == f"signal/tid.{blank.pid}"


def test_an_id_out_of_reach_is_refused(blank: Shadow) -> None:
    blank.restores_timer_ids = False
    with pytest.raises(RestoreError, match="timer 100000"):
        timers.activate(blank, _records((100000, 1, 1, 0, 0, 0, 0, 0)), blank.batch())


def test_records_stay_the_same_while_timers_run(spawner: Spawner, place: Path) -> None:
    output = place / "output"
    original = launch(spawner, built("timers"), str(place / "go"), output=output)
    try:
        await_line(output, "ready")
        original.stop()
        clocks = ProgramClocks(original.pid)
        capture = TimerCapture(clocks)
        with open(f"/proc/{original.pid}/mem", "rb") as memory:

            def captured(previous: Records, *, dying: bool = False) -> TimersRecord:
                stopped = Stopped(
                    original.pid, original.threads, memory.fileno(), -1, original.remote, previous, dying, refresh=False
                )
                return unpack(TimersRecord, capture.capture(stopped)[KEY])

            first = captured({})
            assert first.interval_timers == _NONE
            known = {KEY: pack(TimersRecord(((1, 1), (0, 0), (1, 1)), first.timers))}
            second = captured(known)
            assert [one[:6] for one in second.timers] == [one[:6] for one in first.timers]
            assert second.interval_timers[0][1] == 20_000_000
            assert 3000 * _SECOND_NS < second.interval_timers[2][0] <= 3601 * _SECOND_NS
            assert captured({KEY: pack(second)}, dying=True) == second
        assert len(first.timers) == 5
        far = next(timer for timer in first.timers if timer[3] == 36)
        assert 900 * _SECOND_NS < far[6] - clocks.now_ns(CLOCK_MONOTONIC) <= 1000 * _SECOND_NS
    finally:
        original.kill()
