"""A mirror's connection to its primary: made, made again when it breaks, and carried to the follower.

Messages are handed to the tracer thread one by one: what is not handed over yet stays with the kernel, so a mirror that
is slow is so for itself alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

import structlog

from agent.mirror.follower import Follower
from agent.tracing.tracer import Tracer
from transport.counters import Counters
from transport.errors import FrameError, PeerRefused, StaleUpdate
from transport.link import Conversation, Link, LinkLost, connect
from transport.messages import STREAM, StreamMessage
from transport.session import Connected, Disconnected, SessionEvent
from transport.tls import Tls

log = structlog.get_logger()

_RETRY_S_MIN = 0.02
_RETRY_S_MAX = 0.1
"""An agent that is gone is back within a second, and its mirrors are missing until they have found it again."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the primary's agent is reached."""

    host: str
    port: int
    node: str


class Subscription:
    """Keeps one follower connected to its primary until `close`.

    token: of that primary, as the controller gave it. The follower may have followed one with a lower token, and a
    primary refuses whoever does not know its own.
    """

    def __init__(self, tracer: Tracer, tls: Tls, counters: Counters, source: Source, token: int) -> None:
        self.source = source
        self.token = token
        self._tracer = tracer
        self._tls = tls
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._link: Link[StreamMessage] | None = None
        self._outbox: asyncio.Queue[StreamMessage] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def open(self, follower: Follower) -> None:
        """Connect for the first time, and go on in the background. Raises PeerRefused."""
        self._link = await self._connect(follower)
        self._task = asyncio.create_task(self._run(follower))

    async def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._link is not None:
            self._link.abort()

    # Outgoing of the follower; in the tracer thread.

    def send(self, message: StreamMessage) -> None:
        """See `follower.Outgoing`."""
        self._loop.call_soon_threadsafe(self._outbox.put_nowait, message)

    def hang_up(self, reason: str) -> None:
        """Close the connection; it will be tried again."""
        log.warning("the connection to the primary is closed", reason=reason, node=self.source.node)
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        if self._link is not None:
            self._link.abort()

    def _token(self, follower: Follower) -> int:
        return max(self.token, follower.session.token)

    async def _connect(self, follower: Follower) -> Link[StreamMessage]:
        talk = Conversation(STREAM, lambda: self._token(follower), self._counters)
        return await connect(self.source.host, self.source.port, self._tls, self.source.node, talk)

    async def _run(self, follower: Follower) -> None:
        retry_s = _RETRY_S_MIN
        while True:
            if self._link is None:
                try:
                    self._link = await self._connect(follower)
                except PeerRefused as error:
                    log.debug("the primary can't be reached", reason=error.what)
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, _RETRY_S_MAX)
                    continue
            heard = await self._converse(follower, self._link)
            self._link.abort()
            self._link = None
            retry_s = _RETRY_S_MIN if heard else min(2 * retry_s, _RETRY_S_MAX)
            await asyncio.sleep(retry_s)

    async def _converse(self, follower: Follower, link: Link[StreamMessage]) -> bool:
        """Follow one connection to its end; whether anything came over it."""
        while not self._outbox.empty():
            self._outbox.get_nowait()
        sender = asyncio.create_task(self._send(link))
        heard = False
        try:
            await self._hand_over(follower, Connected(self._token(follower)))
            while (message := await link.receive()) is not None:
                heard = True
                await self._hand_over(follower, message)
        except (LinkLost, FrameError, StaleUpdate) as error:
            log.warning("the connection to the primary broke", reason=error.what)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            await self._hand_over(follower, Disconnected())
        return heard

    async def _send(self, link: Link[StreamMessage]) -> None:
        while True:
            await link.send(await self._outbox.get())

    async def _hand_over(self, follower: Follower, event: SessionEvent) -> None:
        await self._tracer.call(partial(follower.event, event))
