"""The programs that runs mirror answer as redis does, in the words that the load uses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagemusha.demo.story import redis_command
from tests.chaos.load import Connection
from tests.cluster.cluster_of import free_ports
from tests.compiled import compiled

SERVICES = Path(__file__).parent / "services"
_TRIES = 100


@pytest.fixture(params=["redis", "python", "c"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Where one of them listens."""
    [port] = free_ports(1)
    commands = {
        "redis": [*redis_command(), "--port", str(port)],
        "python": [sys.executable, str(SERVICES / "lists.py"), str(port)],
        "c": [str(compiled(SERVICES / "lists.c")), str(port)],
    }
    process = subprocess.Popen(commands[request.param], stdout=subprocess.DEVNULL)
    yield port
    process.kill()
    process.wait()


async def test_what_was_appended_is_there(port: int) -> None:
    connection, other = Connection("127.0.0.1", port), Connection("127.0.0.1", port)
    answer = None
    for _ in range(_TRIES):
        if (answer := await connection.ask(b"LLEN", b"mine")) is not None:
            break
        await asyncio.sleep(0.05)  # It does not listen yet.
    assert answer == b":0"
    for number in range(1, 301):
        assert await connection.ask(b"RPUSH", b"mine", b"%d" % number) == b":%d" % number
    assert await other.ask(b"RPUSH", b"yours", b"7") == b":1"
    assert await other.ask(b"LLEN", b"mine") == b":300"
    assert await connection.all_of(b"mine") == tuple(range(1, 301))
    assert await other.all_of(b"yours") == (7,)
    assert await connection.all_of(b"nobody's") == ()
    connection.drop()
    other.drop()
