"""Three real nodes on a machine that has no time for them: nothing is fenced, nobody is elected, nothing moves."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.trio import Trio, is_text, say, trio

SECONDS = 15.0
SECONDS_LONG = 60.0
HEALTH = """
[[health]]
kind = "exchange"
port = 6379
send = "PING\\r\\n"
expect = "+PONG"
interval_ms = 500
timeout_ms = 250
"""


@contextmanager
def saturated(niceness: int) -> Iterator[None]:
    """Two processes for each CPU, which want all of it."""
    pids = [_burn(niceness) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, 9)
        for pid in pids:
            os.waitpid(pid, 0)


def _burn(niceness: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.nice(niceness)
    while True:
        pass


@dataclass(frozen=True, slots=True)
class State:
    """What moves when there was an alarm. fencings: of all nodes, by their watchdogs."""

    token: int
    term: int
    fencings: int
    unwell: int


def _count(cluster: Trio, what: str) -> int:
    """How often that stands in the logs of the nodes."""
    logs = [*cluster.directory.logs.glob("daemon-*.log"), *cluster.directory.nodes.glob("*/run/watchdog.log")]
    return sum(log.read_text(errors="replace").count(what) for log in logs)


async def _state(cluster: Trio) -> State:
    view: dict[str, Any] = await cluster.until(lambda view: True, "somebody leads")
    token = view["programs"]["redis"]["token"]
    fencings, unwell = (_count(cluster, what) for what in ("its lease ended", "does not serve any more"))
    return State(token, view["term"], fencings, unwell)


async def _is_quiet(seconds: float, niceness: int) -> None:
    async with trio(HEALTH) as cluster:
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        before = await _state(cluster)
        with saturated(niceness):
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                assert is_text(await asyncio.to_thread(say, connection, "GET", "colour"), "vermilion")
                await asyncio.sleep(0.1)
            after = await _state(cluster)
        connection.close()
        assert after == before, f"logs in {cluster.directory.logs}"


@pytest.mark.long
async def test_niced_load_raises_no_alarm() -> None:
    await _is_quiet(SECONDS, 10)


@pytest.mark.long
async def test_load_raises_no_alarm_for_a_while() -> None:
    await _is_quiet(SECONDS_LONG, 10)
    await _is_quiet(SECONDS_LONG, 0)
