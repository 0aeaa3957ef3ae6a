"""The clients of one program: a process that is driven by JSON lines, as `kagemusha.demo.load` is for redis.

    python -m kagemusha.demo.structures.load

    fill     program host port updates        updates of someone else, so that there is something to mirror
    connect  program host port clients per_second     all connect, and send updates from then on, so many altogether
    measure  seconds                          answers with the updates per second of this time
    settle   event_ns                         waits until every client is back after an event; the Outcome
    stop                                      ends

A client whose connection ends, or has no answer in time, connects anew at once, again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from time import monotonic_ns
from typing import Any

from kagemusha.demo.errors import DemoError
from kagemusha.demo.structures.dialects import Dialect, Trader, User
from kagemusha.demo.structures.updates import Updates, outcome

ANSWER_S = 0.3
"""A client that has waited so long for an answer connects anew."""
CONNECT_S = 0.1
CONNECT_LIMIT_S = 15.0
SETTLE_LIMIT_S = 20.0
_AGAIN_S = 0.005
_LOOK_S = 0.01
_PIPELINE = 200

DIALECTS: dict[str, Callable[[str], Dialect]] = {"exchange": Trader, "sessions": User}


class Client:
    """One client, which sends an update every `every_s`."""

    def __init__(self, name: str, dialect: Dialect, target: tuple[str, int], every_s: float) -> None:
        self.updates = Updates(name)
        self._dialect = dialect
        self._target = target
        self._every_s = every_s

    async def run(self) -> None:
        """Send updates for ever. DemoError: the program said what can't be."""
        while True:
            try:
                await self._talk()
            except (OSError, TimeoutError, EOFError):
                await asyncio.sleep(_AGAIN_S)

    async def _talk(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(*self._target)

        async def ask(line: str) -> str:
            writer.write(f"{line}\n".encode())
            async with asyncio.timeout(ANSWER_S):
                answer = await reader.readline()
            if not answer.endswith(b"\n"):
                raise EOFError
            return answer.decode(errors="replace").strip()

        try:
            updates, dialect = self.updates, self._dialect
            updates.held(await dialect.begin(ask), monotonic_ns())
            while True:
                number = updates.next
                updates.unanswered += 1
                is_sure = dialect.judge(number, await ask(dialect.update(number)))
                updates.unanswered -= 1
                updates.acknowledged(monotonic_ns(), is_sure=is_sure)
                await asyncio.sleep(self._every_s)
        finally:
            writer.close()

    async def audit(self) -> None:
        """Have the program look through what it holds, on a connection of its own. DemoError: it does not fit."""
        reader, writer = await asyncio.open_connection(*self._target)

        async def ask(line: str) -> str:
            writer.write(f"{line}\n".encode())
            return (await asyncio.wait_for(reader.readline(), CONNECT_LIMIT_S)).decode(errors="replace").strip()

        try:
            await self._dialect.audit(ask)
        finally:
            writer.close()


class Load:
    """All clients."""

    def __init__(self) -> None:
        self._clients: list[Client] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def fill(self, program: str, host: str, port: int, updates: int) -> dict[str, Any]:
        """Send updates as fast as they are answered, as soon as somebody answers."""
        reader, writer = await _connected(host, port)
        for at in range(0, updates, _PIPELINE):
            numbers = range(at, min(at + _PIPELINE, updates))
            writer.write("".join(f"{_filler(program, number)}\n" for number in numbers).encode())
            for _ in numbers:
                answer = await asyncio.wait_for(reader.readline(), CONNECT_LIMIT_S)
                if not answer.startswith(b"OK "):
                    raise DemoError(f"{program} answers {answer.decode(errors='replace').strip()!r}")
        writer.close()
        return {}

    async def connect(self, program: str, host: str, port: int, clients: int, per_second: int) -> dict[str, Any]:
        """Connect all, and begin."""
        make = DIALECTS[program]
        for number in range(clients):
            name = f"client-{number}"
            self._clients.append(Client(name, make(name), (host, port), clients / per_second))
        self._tasks = [asyncio.create_task(client.run()) for client in self._clients]
        if not await self._until(lambda: all(one.updates.answers_ns for one in self._clients), CONNECT_LIMIT_S):
            raise DemoError(f"not every client of {host}:{port} was answered within {CONNECT_LIMIT_S:g} s")
        return {}

    async def measure(self, seconds: float) -> dict[str, Any]:
        """Updates per second over a time."""
        count, start_ns = self._answered(), monotonic_ns()
        await self._until(lambda: False, seconds)
        return {"updates_per_second": (self._answered() - count) / ((monotonic_ns() - start_ns) / 1e9)}

    async def settle(self, event_ns: int) -> dict[str, Any]:
        """Wait for all clients, and judge."""
        if await self._until(lambda: all(one.updates.is_back(event_ns) for one in self._clients), SETTLE_LIMIT_S):
            await self._clients[0].audit()
        return asdict(outcome((one.updates for one in self._clients), event_ns))

    def _answered(self) -> int:
        return sum(len(client.updates.answers_ns) for client in self._clients)

    async def _until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Look again and again, for so long at most; DemoError of the first client that can't go on."""
        end_ns = monotonic_ns() + int(limit_s * 1e9)
        while not done():
            for task in self._tasks:
                if task.done():
                    task.result()
            if monotonic_ns() > end_ns:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    async def close(self) -> None:
        """End all clients."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _connected(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a program that may still be on its way up."""
    async with asyncio.timeout(CONNECT_LIMIT_S):
        while True:
            try:
                return await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(_LOOK_S)


def _filler(program: str, number: int) -> str:
    """An update that no client of ours meets again: far from the market, or a session of its own."""
    return f"BUY filler {1 + number % 50} {1 + number % 900}" if program == "exchange" else f"OPEN filler-{number}"


async def serve() -> None:
    """Answer the requests of the standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    load = Load()
    requests: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "fill": load.fill,
        "connect": load.connect,
        "measure": load.measure,
        "settle": load.settle,
    }
    with contextlib.suppress(asyncio.CancelledError):
        while line := await reader.readline():
            request = json.loads(line)
            name = request.pop("do")
            if name == "stop":
                break
            try:
                answer = {"done": name, **await requests[name](**request)}
            except (DemoError, OSError, TimeoutError, KeyError, TypeError) as error:
                why = error.what if isinstance(error, DemoError) else f"{type(error).__name__}: {error}"
                answer = {"failed": name, "why": why}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    await load.close()


if __name__ == "__main__":
    asyncio.run(serve())
