"""Three real nodes on a machine that has no time for them: what moves though nothing is broken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kagemusha.promptness import WATCHDOG_PRIORITY
from tests.cluster.trio import Trio, is_text, say
from tests.false_alarms.load import Load, saturated

HEALTH = """
[[health]]
kind = "exchange"
port = 6379
send = "PING\\r\\n"
expect = "+PONG"
interval_ms = 500
timeout_ms = 250
"""
PATIENCE_S = 5.0
_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Quiet:
    """What came of one load. fences: by all watchdogs. promotions, elections: of the program, of a leader. unwell: how
    often a health check said that the program does not serve. unanswered: questions that had no answer within
    PATIENCE_S. answer_ms_max: how long a client waited at most."""

    load: Load
    seconds: float
    fences: int
    elections: int
    promotions: int
    unwell: int
    answers: int
    unanswered: int
    answer_ms_max: float

    @property
    def kept(self) -> bool:
        """Whether there was no alarm, and clients were answered. Real-time load leaves an ordinary program nothing."""
        starved = self.unanswered and self.load != "realtime"
        return not (self.fences or self.elections or self.promotions or self.unwell or starved)


@dataclass(frozen=True, slots=True)
class _State:
    token: int
    term: int
    fences: int
    unwell: int


async def stays_quiet(
    cluster: Trio, load: Load, seconds: float, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> Quiet:
    """Put this load on every CPU for so long, and ask the program all the time. meanwhile: what else is done to it."""
    connection = cluster.connect()
    assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
    before = await _state(cluster)
    answers, unanswered, longest_s = 0, 0, 0.0
    begun_s = time.monotonic()
    with saturated(load), _punctual():
        harm = asyncio.ensure_future(meanwhile()) if meanwhile is not None else None
        while time.monotonic() < begun_s + seconds:
            asked_s = time.monotonic()
            try:
                connection.settimeout(PATIENCE_S)
                reply = say(connection, "GET", "colour")
                if not reply:
                    raise ConnectionResetError
                assert is_text(reply, "vermilion"), reply
                answers += 1
            except OSError:
                unanswered += 1
                connection.close()
                with contextlib.suppress(OSError):
                    connection = cluster.connect(PATIENCE_S)
            longest_s = max(longest_s, time.monotonic() - asked_s)
            await asyncio.sleep(_EVERY_S)
        if harm is not None:
            await harm
    connection.close()
    after = await _state(cluster)
    return Quiet(
        load=load,
        seconds=round(time.monotonic() - begun_s, 1),
        fences=after.fences - before.fences,
        elections=after.term - before.term,
        promotions=after.token - before.token,
        unwell=after.unwell - before.unwell,
        answers=answers,
        unanswered=unanswered,
        answer_ms_max=round(longest_s * 1000, 1),
    )


@contextmanager
def _punctual() -> Iterator[None]:
    """Who asks must not wait for a CPU itself: this thread is real-time meanwhile."""
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(WATCHDOG_PRIORITY))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


async def _state(cluster: Trio) -> _State:
    view: dict[str, Any] = await cluster.until(lambda view: True, "somebody leads")
    token = view["programs"]["redis"]["token"]
    fences, unwell = (_count(cluster, what) for what in ("its lease ended", "does not serve any more"))
    return _State(token, view["term"], fences, unwell)


def _count(cluster: Trio, what: str) -> int:
    """How often that stands in the logs of the nodes."""
    logs = [*cluster.directory.logs.glob("daemon-*.log"), *cluster.directory.nodes.glob("*/run/watchdog.log")]
    return sum(log.read_text(errors="replace").count(what) for log in logs)
