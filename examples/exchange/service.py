"""The exchange over TCP, one line in, one line out. It serves while it is the primary, and waits while it is a mirror.

    python3 service.py 7001

    BUY ann 101 10        OK 1 10               order 1: ann buys 10 at 101 or less; so much of it is open
    SELL bob 99 4         OK 2 0 4@101          all of it was sold at once, at ann's price
    SELL bob 99 1 SURE    OK 3 0 1@101 SURE     the same, answered when it is safe: a mirror has it
    CANCEL ann 1          OK 5                  so much of it was still open
    TOP, LAST, ACCOUNT ann, CHECK               best prices, last trade, somebody's orders and money, the sums

An order is answered at once, and mirrored within the interval: if the machine dies in between, it is lost. One that
ends with SURE is answered when the mirrors have it. UNSURE instead: there is no mirror, or none has said so in time.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from engine import Book, Exchange

from kagemusha import structures

SAFE_S = 2.0
"""How long to wait for the mirrors."""


class Commits:
    """Waits until the mirrors have what was changed. Requests that come during one commit share the next."""

    def __init__(self) -> None:
        self._next: asyncio.Task[bool] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def safe(self) -> bool:
        """Return whether a mirror has everything that was changed before this was called."""
        if self._next is None:
            self._next = asyncio.create_task(self._commit())
        return await asyncio.shield(self._next)

    async def _commit(self) -> bool:
        async with self._one_at_a_time:
            self._next = None
            try:
                return await structures.commit_async(SAFE_S) > 0
            except structures.NotCommitted as error:
                logging.warning("%s", error)
                return False


class Service:
    """Serves the exchange while this instance is the primary."""

    def __init__(self, exchange: Exchange, port: int) -> None:
        self._exchange = exchange
        self._port = port
        self._commits = Commits()
        self._clients: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._serves = False

    async def begin(self) -> None:
        """This instance is the primary from now on."""
        if self._serves:
            return
        self._serves = True
        self._exchange.look_through()
        self._server = await asyncio.start_server(self._serve, "0.0.0.0", self._port)
        logging.info("serving, with %d open orders", len(self._exchange.book.orders))

    async def end(self) -> None:
        """Another one is the primary from now on."""
        self._serves = False
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while (line := await reader.readline()) and self._serves:
                request = line.decode(errors="replace").strip()
                answer = self._exchange.answer(request.removesuffix(" SURE"))
                if request.endswith(" SURE") and answer.startswith("OK"):
                    answer += " SURE" if await self._commits.safe() else " UNSURE"
                writer.write(f"{answer}\n".encode())
                await writer.drain()
        except (ConnectionError, ValueError):  # gone, or a line without an end
            pass
        finally:
            self._clients.discard(writer)
            writer.close()


async def main(port: int) -> None:
    """Be what the agent says, for ever."""
    service = Service(Exchange(structures.mirror("book", Book())), port)
    structures.on_promote(service.begin)
    structures.on_demote(service.end)
    structures.start()
    if structures.role() == "primary":
        await service.begin()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(main(int(sys.argv[1])))
