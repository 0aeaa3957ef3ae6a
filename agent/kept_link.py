"""A mirror's link to its primary: made, made again when it breaks, until nobody wants it any more. In the event loop.

What is not taken in yet stays with the kernel, so a mirror that is slow is so for itself alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import structlog

from transport.errors import FrameError, PeerRefused, StaleUpdate
from transport.link import Conversation, Link, LinkLost, connect
from transport.tls import Tls

log = structlog.get_logger()

_RETRY_S_MIN: Final = 0.02
_RETRY_S_MAX: Final = 0.1
"""An agent that is gone is back within a second, and its mirrors are missing until they have found it again."""

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the primary's agent is reached."""

    host: str
    port: int
    node: str


class Hearer(Protocol[M_contra]):
    """Who takes in what comes over it."""

    async def connected(self) -> None:
        """There is a connection, and nothing was said over it yet."""

    async def heard(self, message: M_contra) -> bool:
        """One message; returns when the next may come. False: the other side has said goodbye.

        Raises FrameError or StaleUpdate for what ends the connection.
        """

    async def disconnected(self) -> None:
        """The connection has ended."""


class KeptLink(Generic[M]):
    """One link, with a queue of what is to be said over it. A new connection begins with nothing in the queue."""

    def __init__(self, source: Source, tls: Tls, talk: Conversation[M], hearer: Hearer[M]) -> None:
        self._source = source
        self._tls = tls
        self._talk = talk
        self._hearer = hearer
        self._link: Link[M] | None = None
        self._outbox: asyncio.Queue[M] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect for the first time, and go on in the background. Raises PeerRefused."""
        self._link = await self._connect()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the connection; no other is made."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.abort()

    def say(self, message: M) -> None:
        """Send to the primary."""
        self._outbox.put_nowait(message)

    def abort(self) -> None:
        """End this connection; it will be tried again."""
        if self._link is not None:
            self._link.abort()

    async def _connect(self) -> Link[M]:
        return await connect(self._source.host, self._source.port, self._tls, self._source.node, self._talk)

    async def _run(self) -> None:
        retry_s = _RETRY_S_MIN
        while True:
            if self._link is None:
                try:
                    self._link = await self._connect()
                except PeerRefused as error:
                    log.debug("the primary can't be reached", reason=error.what)
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, _RETRY_S_MAX)
                    continue
            heard = await self._converse(self._link)
            self._link.abort()
            self._link = None
            retry_s = _RETRY_S_MIN if heard else min(2 * retry_s, _RETRY_S_MAX)
            await asyncio.sleep(retry_s)

    async def _converse(self, link: Link[M]) -> bool:
        """Follow one connection to its end; whether anything came over it."""
        while not self._outbox.empty():
            self._outbox.get_nowait()
        sender = asyncio.create_task(self._send(link))
        heard = False
        try:
            await self._hearer.connected()
            while (message := await link.receive()) is not None and await self._hearer.heard(message):
                heard = True
        except (LinkLost, FrameError, StaleUpdate) as error:
            log.warning("the connection to the primary broke", reason=error.what)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            await self._hearer.disconnected()
        return heard

    async def _send(self, link: Link[M]) -> None:
        while True:
            await link.send(await self._outbox.get())
