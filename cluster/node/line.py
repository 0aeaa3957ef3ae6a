"""One link to another node, as the daemon uses it: sending never waits, and what can't be sent ends the link."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from cluster.node.messages import Heartbeat, NodeMessage
from transport.link import Link, LinkLost

BACKLOG_MAX: Final = 1024
"""Messages that may wait to be sent; a peer that does not take them is as good as gone."""


class Line:
    """A link with a queue before it. `send` may be called from anywhere in the event loop."""

    def __init__(self, link: Link[NodeMessage]) -> None:
        self.node = link.peer
        self.link = link
        self.lost = False
        self._queue: deque[NodeMessage] = deque()
        self._news = asyncio.Event()

    def send(self, message: NodeMessage) -> bool:
        """Send a message soon; False when the line is lost. Of waiting heartbeats only the newest is sent."""
        if self.lost:
            return False
        if isinstance(message, Heartbeat) and self._queue and isinstance(self._queue[-1], Heartbeat):
            self._queue.pop()
        if len(self._queue) >= BACKLOG_MAX:
            self.drop()
            return False
        self._queue.append(message)
        self._news.set()
        return True

    def drop(self) -> None:
        """End the line at once."""
        self.lost = True
        self.link.abort()
        self._news.set()

    async def run(self, take: Callable[[Line, NodeMessage], None]) -> None:
        """Carry messages both ways until the link ends. Raises what `Link.receive` does for what can't be accepted."""
        sender = asyncio.create_task(self._send_all())
        try:
            while not self.lost and (message := await self.link.receive()) is not None:
                take(self, message)
        finally:
            self.lost = True
            self._news.set()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send_all(self) -> None:
        try:
            while not self.lost:
                while self._queue:
                    batch = tuple(self._queue)
                    self._queue.clear()
                    await self.link.send(*batch)
                self._news.clear()
                if not self._queue:
                    await self._news.wait()
        except LinkLost:
            self.drop()
