"""`python -m tests.chaos.load HOST PORT PREFIX FILE`: clients that record every question and its answer.

Each appends 1, 2, 3, ... to a list of its own, and now and then asks how long another's list is. A question without an
answer is not asked again: the next number is written over a new connection. The end of the standard input ends the
load; then all lists are read, and everything is written to FILE. With a PREFIX (else "") the lists' names begin so, and
in the end they are deleted: the program is somebody's.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from kagemusha.demo.resp import command
from tests.chaos.evidence import Content, Operation, as_line
from tests.chaos.witness import say_ready

CLIENTS = 8
PAUSE_S = 0.03
ANSWER_S = 2.0
CONNECT_S = 1.0
READ_ALL_S = 30.0
_READ_SHARE = 0.25
_REFUSED_PAUSE_S = 0.1


class LoadError(Exception):
    """A client that asks no more would see nothing."""


class Connection:
    """One client's connection to the program, made again whenever it failed."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, *words: bytes) -> bytes | None:
        """The first line of the answer; None: there was none in time, and whether it was done is not known."""
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await self._opened()
            async with asyncio.timeout(ANSWER_S):
                writer.write(command(*words))
                await writer.drain()
                return (await reader.readuntil(b"\r\n")).strip()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.drop()
            return None

    async def all_of(self, key: bytes) -> tuple[int, ...]:
        """The whole list. Raises OSError, TimeoutError, IncompleteReadError."""
        async with asyncio.timeout(READ_ALL_S):
            reader, writer = await self._opened()
            writer.write(command(b"LRANGE", key, b"0", b"-1"))
            count = int((await reader.readuntil(b"\r\n"))[1:])
            numbers = []
            for _ in range(count):
                await reader.readuntil(b"\r\n")
                numbers.append(int(await reader.readuntil(b"\r\n")))
        return tuple(numbers)

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._target)
            # What is given up is reset: nothing of it may arrive later.
            at_once = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        return self._reader, self._writer

    def drop(self) -> None:
        """Give the connection up."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


class Client:
    """Appends to its list, and reads others'."""

    def __init__(self, name: str, connection: Connection, chance: random.Random, tell: Callable[[Operation], None]):
        self._name = name
        self._connection = connection
        self._chance = chance
        self._tell = tell
        self._number = 0

    async def run(self, names: list[str]) -> None:
        """Until it is cancelled."""
        while True:
            if self._chance.random() < _READ_SHARE:
                await self._ask("read", self._chance.choice(names), b"LLEN")
            else:
                self._number += 1
                await self._ask("append", self._name, b"RPUSH", b"%d" % self._number)
            await asyncio.sleep(self._chance.uniform(0, 2 * PAUSE_S))

    async def _ask(self, kind: Literal["append", "read"], name: str, word: bytes, *more: bytes) -> None:
        number = self._number if kind == "append" else 0
        begun_ns = time.monotonic_ns()
        try:
            answer = await self._connection.ask(word, name.encode(), *more)
        except asyncio.CancelledError:
            # The load ends: it may have been done all the same.
            self._tell(Operation(name, kind, number, 0, begun_ns, time.monotonic_ns(), False, self._name))
            raise
        ok = answer is not None and answer.startswith(b":")
        length = int(answer[1:]) if ok and answer is not None else 0
        self._tell(Operation(name, kind, number, length, begun_ns, time.monotonic_ns(), ok, self._name))
        if not ok:
            self._connection.drop()
            await asyncio.sleep(_REFUSED_PAUSE_S)


async def _main(host: str, port: int, prefix: str, path: Path) -> None:
    names = [f"{prefix}client-{number}" for number in range(CLIENTS)]
    told: list[Operation] = []
    chance = random.Random(0)
    clients = [Client(name, Connection(host, port), chance, told.append) for name in names]
    tasks = [asyncio.ensure_future(client.run(names)) for client in clients]
    while len(told) < 2 * CLIENTS:
        await asyncio.sleep(PAUSE_S)
    say_ready()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    for came in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(came, asyncio.CancelledError):
            raise LoadError(f"a client has ended by itself: {came!r}")
    last = Connection(host, port)
    contents = []
    for name in names:
        try:
            contents.append(Content(name, await last.all_of(name.encode())))
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            # What the clients have seen is worth something all the same; the run says that the list is missing.
            sys.stderr.write(f"the list {name} could not be read: {error!r}\n")
            last.drop()
    if prefix:
        await last.ask(b"DEL", *(name.encode() for name in names))
    last.drop()
    with path.open("w") as file:
        for one in (*told, *contents):
            file.write(json.dumps(as_line(one)) + "\n")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
