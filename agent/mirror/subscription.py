"""A mirror's connection to its primary, carried to the follower.

Messages are handed to the tracer thread one by one: what is not handed over yet stays with the kernel.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from agent.kept_link import KeptLink, Source
from agent.mirror.follower import Follower
from agent.tracing.tracer import Tracer
from transport.counters import Counters
from transport.link import Conversation
from transport.messages import STREAM, StreamMessage
from transport.session import Connected, Disconnected, SessionEvent
from transport.tls import Tls

log = structlog.get_logger()


class Subscription:
    """Keeps one follower connected to its primary until `close`.

    token: of that primary, as the controller gave it. The follower may have followed one with a lower token, and a
    primary refuses whoever does not know its own.
    """

    def __init__(self, tracer: Tracer, tls: Tls, counters: Counters, source: Source, token: int) -> None:
        self.source = source
        self.token = token
        self._tracer = tracer
        self._loop = asyncio.get_running_loop()
        self._follower: Follower | None = None
        self._link = KeptLink(source, tls, Conversation(STREAM, self._known_token, counters), self)

    async def open(self, follower: Follower) -> None:
        """Connect for the first time, and go on in the background. Raises PeerRefused."""
        self._follower = follower
        await self._link.open()

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()

    # Outgoing of the follower; in the tracer thread.

    def send(self, message: StreamMessage) -> None:
        """See `follower.Outgoing`."""
        self._loop.call_soon_threadsafe(self._link.say, message)

    def hang_up(self, reason: str) -> None:
        """Close the connection; it will be tried again."""
        log.warning("the connection to the primary is closed", reason=reason, node=self.source.node)
        self._loop.call_soon_threadsafe(self._link.abort)

    # Hearer of the link.

    async def connected(self) -> None:
        """See `kept_link.Hearer`."""
        await self._hand_over(Connected(self._known_token()))

    async def heard(self, message: StreamMessage) -> bool:
        """See `kept_link.Hearer`."""
        await self._hand_over(message)
        return True

    async def disconnected(self) -> None:
        """See `kept_link.Hearer`."""
        await self._hand_over(Disconnected())

    def _known_token(self) -> int:
        return self.token if self._follower is None else max(self.token, self._follower.session.token)

    async def _hand_over(self, event: SessionEvent) -> None:
        if self._follower is not None:
            await self._tracer.call(partial(self._follower.event, event))
