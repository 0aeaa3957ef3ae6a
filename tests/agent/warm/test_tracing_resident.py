"""A traced program with a native structure, beside which a resident lives: what it takes, writes, and sees."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from agent.structures.blocks import BLOCK_WORDS, count_blocks
from agent.structures.locating import Located, locate
from agent.structures.report import Refusal
from agent.structures.table import StructureTable
from agent.structures.update import Applied, Original, Update
from agent.tracing.prompt import Prompt
from agent.warm.tracing_resident import COMPARE_S, TracingResident
from tests.agent.structures.built import ask, built, traced
from tests.agent.traced import STOP_S, Running
from transport.delta import PagePartEncoder

TABLE = StructureTable(symbol="g_sessions", exclude=("g_sessions.entries.lock",))


@dataclass
class Beside:
    """The program, its resident, and what that has told."""

    program: Running
    resident: TracingResident
    located: list[Located]
    updates: list[Update] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def wake(self, after_s: float = 0.0) -> None:
        self.resident.wake(time.monotonic() + after_s)


@contextmanager
def beside() -> Iterator[Beside]:
    with traced(built("sessions.c", "-g")) as program:
        updates: list[Update] = []
        refused: list[Refusal] = []
        ended: list[int] = []
        located, refusals = locate([TABLE], program.pid)
        assert refusals == []
        resident = TracingResident(
            program.tracee,
            Prompt(None),
            STOP_S,
            50,
            lambda found, at_ns: updates.extend(found),
            refused.append,
            ended.append,
        )
        yield Beside(program, resident, located, updates, refused, ended)


def test_what_a_killed_program_wrote_last_is_taken() -> None:
    with beside() as one:
        [(declaration, held)] = one.resident.supply(one.located, 1, {})
        assert (declaration.structure, held) == ("g_sessions", None)
        one.wake()
        assert [update.is_whole for update in one.updates] == [True]
        ask(one.program, "w 5 50 0.5")
        os.kill(one.program.pid, signal.SIGKILL)
        end_s = time.monotonic() + 10
        while not one.ended and time.monotonic() < end_s:
            signal.sigtimedwait({signal.SIGCHLD}, 0.05)
            one.wake()
        assert one.ended == [signal.SIGKILL]
        assert [update.version for update in one.updates] == [1, 2]


def test_what_is_held_was_taken_and_goes_on() -> None:
    with beside() as one:
        one.resident.supply(one.located, 1, {})
        one.wake()
        ask(one.program, "w 5 50 0.5")
        one.resident.hold()
        assert [update.version for update in one.updates] == [1, 2]
        one.wake(1.0)
        assert len(one.updates) == 2
        one.resident.resume()
        ask(one.program, "w 6 60 0.5")
        one.wake(2.0)
        assert [update.version for update in one.updates] == [1, 2, 3]


def test_a_mirror_that_works_on_its_structures_is_seen_and_put_right() -> None:
    with beside() as one:
        [declaration] = one.resident.receive(one.located)
        assert one.resident.compare(declaration) is None
        size = one.located[0].structure.size
        original = Original("g_sessions", size, PagePartEncoder(), token=1)
        count = count_blocks(size)
        first = original.advance(np.arange(count, dtype=np.uint64), np.zeros((count, BLOCK_WORDS), np.uint64))
        assert first is not None
        assert isinstance(one.resident.apply(first), Applied)
        one.wake(COMPARE_S + 1)
        assert one.refused == []
        ask(one.program, "w 5 50 0.5")
        one.wake(2 * COMPARE_S + 2)
        [refusal] = one.refused
        assert refusal.code == "diverged"
        assert "was changed by the mirror's own program" in refusal.what
        assert one.resident.holds == {}
        assert isinstance(one.resident.apply(original.whole()), Applied)
        assert one.resident.holds == {"g_sessions": (1, original.state)}
