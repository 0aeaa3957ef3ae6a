"""A mirror's connection to its primary: made, made again when it breaks, and carried to whoever takes it in.

In the event loop. What is not taken in yet stays with the kernel, so a mirror that is slow is so for itself alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from agent.mirror.subscription import Source
from transport.counters import Counters
from transport.errors import FrameError, PeerRefused, StaleUpdate
from transport.link import Conversation, Link, LinkLost, connect
from transport.messages import Bye
from transport.structure_messages import STRUCTURES, Join, StructureMessage
from transport.tls import Tls

log = structlog.get_logger()

_RETRY_S_MIN: Final = 0.02
_RETRY_S_MAX: Final = 0.1


class Taker(Protocol):
    """Who takes in what a primary sends."""

    def join(self) -> Join:
        """A connection is there: what is said first."""

    async def take(self, message: StructureMessage) -> None:
        """One message; returns when the next may come. Raises FrameError for what can't be one."""

    def lost(self) -> None:
        """The connection has ended."""


class Subscription:
    """Keeps one taker connected to its primary until `close`. token: of that primary; see `mirror.subscription`."""

    def __init__(
        self, tls: Tls, counters: Counters, source: Source, token: int, known_token: Callable[[], int], taker: Taker
    ) -> None:
        """known_token: the highest token that this instance knows."""
        self.source = source
        self.token = token
        self._tls = tls
        self._counters = counters
        self._known_token = known_token
        self._taker = taker
        self._link: Link[StructureMessage] | None = None
        self._outbox: asyncio.Queue[StructureMessage] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect for the first time, and go on in the background. Raises PeerRefused."""
        self._link = await self._connect()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._link is not None:
            self._link.abort()

    def say(self, message: StructureMessage) -> None:
        """Send to the primary."""
        self._outbox.put_nowait(message)

    def join_anew(self) -> None:
        """End this connection: what was said over it is not true any more. Another one is made."""
        if self._link is not None:
            self._link.abort()

    async def _connect(self) -> Link[StructureMessage]:
        talk = Conversation(STRUCTURES, lambda: max(self.token, self._known_token()), self._counters)
        return await connect(self.source.host, self.source.port, self._tls, self.source.node, talk)

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

    async def _converse(self, link: Link[StructureMessage]) -> bool:
        """Follow one connection to its end; whether anything came over it."""
        while not self._outbox.empty():
            self._outbox.get_nowait()
        self.say(self._taker.join())
        sender = asyncio.create_task(self._send(link))
        heard = False
        try:
            while (message := await link.receive()) is not None:
                if isinstance(message, Bye):
                    log.info("the primary says goodbye", reason=message.reason, node=self.source.node)
                    break
                heard = True
                await self._taker.take(message)
        except (LinkLost, FrameError, StaleUpdate) as error:
            log.warning("the connection to the primary broke", reason=error.what)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            self._taker.lost()
        return heard

    async def _send(self, link: Link[StructureMessage]) -> None:
        while True:
            await link.send(await self._outbox.get())
