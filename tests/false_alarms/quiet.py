"""Three real nodes on a machine that has no time for them: what moves though nothing is broken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kagemusha.promptness import WATCHDOG_PRIORITY
from tests.cluster.trio import NAMES, Trio, is_text, say
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
_AGREE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Quiet:
    """What came of one load. fences: by all watchdogs. promotions, elections: of the program, of a leader. unwell: how
    often a health check said that the program does not serve. unanswered: questions that had no answer within
    PATIENCE_S. answer_ms_max: how long a client waited at most. agreed, agree_ms_max: on how many commands the nodes
    have agreed meanwhile, which their journals keep, and how long one took at most."""

    load: Load
    seconds: float
    fences: int
    elections: int
    promotions: int
    unwell: int
    answers: int
    unanswered: int
    answer_ms_max: float
    agreed: int
    agree_ms_max: float

    @property
    def kept(self) -> bool:
        """Whether there was no alarm, and clients were answered. Real-time load leaves an ordinary program nothing."""
        starved = self.unanswered and self.load != "realtime"
        alarms = self.fences or self.elections or self.promotions or self.unwell
        return not (alarms or starved) and self.agreed > 0


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
    loop = asyncio.get_running_loop()
    begun_s = time.monotonic()
    # Who asks must not wait for a CPU itself.
    with ThreadPoolExecutor(1, "client", _be_punctual) as client:
        await loop.run_in_executor(client, _be_punctual)
        _be_punctual()
        try:
            with saturated(load):
                harm = asyncio.ensure_future(meanwhile()) if meanwhile is not None else None
                agreement = asyncio.ensure_future(_agree(cluster, begun_s + seconds))
                while time.monotonic() < begun_s + seconds:
                    asked_s = time.monotonic()
                    try:
                        connection.settimeout(PATIENCE_S)
                        reply = await loop.run_in_executor(client, say, connection, "GET", "colour")
                        if not reply:
                            raise ConnectionResetError
                        assert is_text(reply, "vermilion"), reply
                        answers += 1
                    except OSError:
                        unanswered += 1
                        connection.close()
                        with contextlib.suppress(OSError):
                            connection = await loop.run_in_executor(client, cluster.connect, PATIENCE_S)
                    longest_s = max(longest_s, time.monotonic() - asked_s)
                    await asyncio.sleep(_EVERY_S)
                if harm is not None:
                    await harm
                agreed, agree_s = await agreement
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
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
        agreed=agreed,
        agree_ms_max=round(agree_s * 1000, 1),
    )


def _be_punctual() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(WATCHDOG_PRIORITY))


async def _agree(cluster: Trio, until_s: float) -> tuple[int, float]:
    """Have a command agreed again and again; return how often it was, and how long it took at most (s)."""
    agreed, longest_s = 0, 0.0
    while time.monotonic() < until_s:
        asked_s = time.monotonic()
        # A request that was answered before changes nothing, and is agreed on all the same.
        answer = await cluster.daemons["b"].ask(do="create", file=cluster.program, nodes=NAMES)
        agreed += answer == {"value": "redis"}
        longest_s = max(longest_s, time.monotonic() - asked_s)
        await asyncio.sleep(_AGREE_EVERY_S)
    return agreed, longest_s


async def _state(cluster: Trio) -> _State:
    view: dict[str, Any] = await cluster.until(lambda view: True, "somebody leads")
    token = view["programs"]["redis"]["token"]
    fences, unwell = (_count(cluster, what) for what in ("its lease ended", "does not serve any more"))
    return _State(token, view["term"], fences, unwell)


def _count(cluster: Trio, what: str) -> int:
    """How often that stands in the logs of the nodes."""
    logs = [*cluster.directory.logs.glob("daemon-*.log"), *cluster.directory.nodes.glob("*/run/watchdog.log")]
    return sum(log.read_text(errors="replace").count(what) for log in logs)
