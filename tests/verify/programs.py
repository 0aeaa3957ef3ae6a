"""What is verified: programs that do to their memory what mirrors find hard, with what keeps them busy."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.compiled import compiled

SOURCES = Path(__file__).parent / "programs"
REDIS_PORT = 7379
_START_S_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Program:
    """One program. command: what starts it. load: what acts on it while it is mirrored."""

    name: str
    command: Callable[[], tuple[str, ...]]
    load: Callable[[], AbstractContextManager[None]] = nullcontext


def _compiled(source: str, *arguments: str) -> Callable[[], tuple[str, ...]]:
    return lambda: (str(compiled(SOURCES / source, "-O2")), *arguments)


def _redis() -> tuple[str, ...]:
    server = shutil.which("redis-server")
    if server is None:
        raise RuntimeError("redis-server is not installed: make setup")
    return (server, "--port", str(REDIS_PORT), "--save", "", "--appendonly", "no")


@contextmanager
def _benchmark() -> Iterator[None]:
    """redis-benchmark with commands that move much memory, over and over until it is killed."""
    until_s = time.monotonic() + _START_S_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", REDIS_PORT), 1).close()
            break
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.01)
    command = ["redis-benchmark", "-p", str(REDIS_PORT), "-t", "set,get,lpush,lpop,sadd,hset,zadd", "-P", "4"]
    command += ["-c", "20", "-n", "1000000", "-r", "200000", "-d", "400", "-q", "-l"]
    load = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        load.kill()
        load.wait()


PROGRAMS = (
    Program("redis under load", _redis, _benchmark),
    Program("maps and unmaps all the time", _compiled("remaps.c")),
    Program("16 threads that come and go", _compiled("comes_and_goes.c")),
    Program("1 GiB", _compiled("large.c", "1024")),
)
LARGE = Program("320 MiB", _compiled("large.c", "320"))
"""In the place of the last one where time is short: scanned like it, being larger than `tracking.LARGE_BYTES`."""
