"""Programs that hang, on three real nodes: stopped from outside, which a mirror survives, and by themselves, which it
does not."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.cluster.trio import DEADLINE_S, Trio, is_text, say, trio

pytestmark = pytest.mark.nodes

HEALTH = """
[[health]]
kind = "exchange"
port = 6379
send = "PING\\r\\n"
expect = "+PONG"
interval_ms = 300
timeout_ms = 200
fall = 2
"""


async def test_a_program_that_was_stopped_goes_on_elsewhere() -> None:
    async with trio(HEALTH) as cluster:
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        pid = cluster.pid_of_redis("a")
        os.kill(pid, signal.SIGSTOP)
        # The same connection: the mirror was stopped by nobody, and holds what the stopped one held.
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        view = await cluster.served()
        redis = view["programs"]["redis"]
        assert redis["token"] == 2
        assert redis["primary"] != "a"
        assert "exchange 6379: no answer within 200 ms" in redis["last_promotion"]["reason"]
        await cluster.ended(pid)
        connection.close()


async def test_a_state_that_hangs_does_not_travel_for_ever() -> None:
    # By the time that it is found to hang again, somebody mirrors it again.
    async with trio(HEALTH.replace("fall = 2", "fall = 8"), takeovers_max=1) as cluster:
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        # A script without end: whoever continues this state continues that.
        connection.sendall(b"*3\r\n$4\r\nEVAL\r\n$16\r\nwhile 1 do end--\r\n$1\r\n0\r\n")
        view = await cluster.until(
            lambda view: (
                view["programs"]["redis"]["last_promotion"]["version"]["number"] == 0
                and view["programs"]["redis"]["token"] > 1
            ),
            "it is started without its context",
        )
        notes = [note for _, note, _ in view["notes"]]
        assert any("it is started without its context: too many takeovers" in note for note in notes), notes
        view = await cluster.served()
        assert view["programs"]["redis"]["takeovers"] == []
        assert _answers(cluster, "GET", "colour") == b"$-1\r\n"
        connection.close()


def _answers(cluster: Trio, *words: str) -> bytes:
    """What a new client hears; one whose connection breaks comes again."""
    limit_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < limit_s:
        try:
            with cluster.connect() as connection:
                return say(connection, *words)
        except (TimeoutError, ConnectionError):
            continue
    raise AssertionError("nobody answers")
