"""What was read ahead need not be asked of the program at the first checkpoint, which is the same as without that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.context import process
from agent.context.threads import PREFIX
from agent.primary.context_capture import ContextCapture
from agent.tracing.remote import Remote
from agent.tracing.tracee import Tracee
from tests.agent.traced import running

DEADLINE_S = 10.0


@pytest.fixture
def tracee() -> Iterator[Tracee]:
    with running("frames") as program:
        yield program.tracee


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that have had to lend their registers."""
    found: list[int] = []
    enter = Remote.__enter__

    def note(remote: Remote) -> Remote:
        found.append(remote.tid)
        return enter(remote)

    monkeypatch.setattr(Remote, "__enter__", note)
    return found


def test_the_first_checkpoint_asks_for_nothing_that_was_learnt(tracee: Tracee, lent: list[int]) -> None:
    plain, ahead = (ContextCapture(tracee, lambda path: "local") for _ in range(2))
    tracee.stop(time.monotonic() + DEADLINE_S)
    expected = plain.capture({})
    assert lent
    tracee.resume()
    stops = 0
    learning = True
    while learning:
        lent.clear()
        tracee.stop(time.monotonic() + DEADLINE_S)
        learning = ahead.learn()
        tracee.resume()
        assert len(lent) <= 1, "one stop does one thing"
        stops += 1
    assert stops > 5
    lent.clear()
    tracee.stop(time.monotonic() + DEADLINE_S)
    found = ahead.read({})
    tracee.resume()
    assert not lent
    records = found()
    assert records.keys() == expected.keys()
    # Its clocks are read anew each time, and its registers may differ, for it ran in between.
    stands = {key for key in records if key != process.KEY and not key.startswith(PREFIX)}
    assert all(records[key] == expected[key] for key in stands)
    now, then = (process.record_of(one) for one in (records, expected))
    assert now == replace(then, clocks_ahead_ns=now.clocks_ahead_ns)
    plain.close()
    ahead.close()


def test_each_room_is_read_as_a_whole_in_its_turn(tracee: Tracee, lent: list[int]) -> None:
    capture = ContextCapture(tracee, lambda path: "local")
    tracee.stop(time.monotonic() + DEADLINE_S)
    records = capture.capture({})
    asked = []
    for _ in range(256):
        lent.clear()
        records = capture.capture(records)
        asked.append(len(lent))
    assert sum(asked) >= 3
    assert max(asked[2:]) <= 2, "no two rooms at the same stop"
    capture.close()
    tracee.resume()
