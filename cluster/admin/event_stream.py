"""Server-sent events (HTML Living Standard, 9.2): what is agreed, to browsers and to `kagemusha` as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from cluster.admin.events import ReaderTooSlow, sent_event
from cluster.admin.models import Event
from cluster.admin.port import Cluster
from cluster.admin.problem import BUSY_NODE, INVALID, ApiError

STREAMS_MAX: Final = 32
QUIET_S_MAX: Final = 15.0
"""After so long without an event a comment is sent, so that a connection that is dead is found to be."""
_DIGITS_MAX: Final = 18


class EventStream:
    """Serves /v1/events."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._streams: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """End all streams; their readers come again."""
        for stream in self._streams:
            stream.cancel()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One stream, until the reader goes. Raises ApiError before it has begun."""
        after = _after(request.headers.get("Last-Event-ID"))
        if len(self._streams) >= STREAMS_MAX:
            raise ApiError(BUSY_NODE, f"{STREAMS_MAX} event streams are open on this node", hint="ask another node")
        answer = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "Server": "kagemusha",
            }
        )
        events = self._cluster.events(after)
        stream = asyncio.create_task(self._send(request, answer, events))
        self._streams.add(stream)
        try:
            await asyncio.wait({stream})
        finally:
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)
            self._streams.discard(stream)
        return answer

    async def _send(self, request: web.Request, answer: web.StreamResponse, events: AsyncIterator[Event]) -> None:
        await answer.prepare(request)
        await answer.write(b": kagemusha\n\n")
        following: asyncio.Task[Event] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({following}, timeout=QUIET_S_MAX)
                if not done:
                    await answer.write(b": nothing new\n\n")
                    continue
                event, following = following.result(), None
                await answer.write(sent_event(event))
        except (ReaderTooSlow, StopAsyncIteration, ConnectionError):
            return
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


def _after(last: str | None) -> int | None:
    if last is None or last == "":
        return None
    if not (last.isascii() and last.isdigit() and len(last) <= _DIGITS_MAX):
        raise ApiError(INVALID, "Last-Event-ID is no event's index", hint="it is the id of the last event that came")
    return int(last)
