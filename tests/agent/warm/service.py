"""A program with a mirrored table: whoever is the primary serves it over TCP, a line in, a line out.

`service.py PORT`. `SET name value` answers with the number of mirrors that have it, when they have; `PUT name value`
answers at once; `GET name`, `COUNT`, `ROLE`. It listens while it is the primary, and closes all of its connections when
it is not any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

from kagemusha import structures

TABLE: Any = structures.Dict()


class Service:
    """The listener, while there is one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self) -> None:
        self._server = await asyncio.start_server(self._converse, "0.0.0.0", self._port, reuse_address=True)

    async def leave(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                answer = await self._answer(line.decode().split())
                writer.write(f"{answer}\n".encode())
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, words: list[str]) -> str:
        match words:
            case ["SET", name, value]:
                TABLE[name] = value
                return f"OK {await structures.commit_async()}"
            case ["PUT", name, value]:
                TABLE[name] = value
                return "OK"
            case ["GET", name]:
                return str(TABLE.get(name, "NONE"))
            case ["COUNT"]:
                return str(len(TABLE))
            case ["ROLE"]:
                return structures.role()
        return "WHAT"


async def main() -> None:
    """Run for ever."""
    service = Service(int(sys.argv[1]))
    structures.start()
    structures.mirror("table", TABLE)
    structures.on_promote(service.serve)
    structures.on_demote(service.leave)
    if structures.role() == "primary":
        await service.serve()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
