"""A mirror's connection to its primary, carried to whoever takes in what its program is to have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from agent.kept_link import KeptLink, Source
from transport.counters import Counters
from transport.link import Conversation
from transport.messages import Bye
from transport.structure_messages import STRUCTURES, Join, StructureMessage
from transport.tls import Tls

log = structlog.get_logger()


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
        self._taker = taker
        talk = Conversation(STRUCTURES, lambda: max(token, known_token()), counters)
        self._link = KeptLink(source, tls, talk, self)

    async def open(self) -> None:
        """Connect for the first time, and go on in the background. Raises PeerRefused."""
        await self._link.open()

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()

    def say(self, message: StructureMessage) -> None:
        """Send to the primary."""
        self._link.say(message)

    def join_anew(self) -> None:
        """End this connection: what was said over it is not true any more. Another one is made."""
        self._link.abort()

    # Hearer of the link.

    async def connected(self) -> None:
        """See `kept_link.Hearer`."""
        self.say(self._taker.join())

    async def heard(self, message: StructureMessage) -> bool:
        """See `kept_link.Hearer`."""
        if isinstance(message, Bye):
            log.info("the primary says goodbye", reason=message.reason, node=self.source.node)
            return False
        await self._taker.take(message)
        return True

    async def disconnected(self) -> None:
        """See `kept_link.Hearer`."""
        self._taker.lost()
