"""The mirrors that are connected to a primary: one link, one queue and one sender for each. In the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from agent.holders import Holders
from agent.warm.feed_events import Drop, FeedEvent, Flowing, Has, Jammed, Joined, Left, Send, Wants
from transport.checkpoint import Version
from transport.link import Link, LinkLost
from transport.messages import Bye
from transport.structure_messages import Change, Join, Piece, Reached, StructureMessage, Want

JOIN_S: Final = 5.0
WAITING_BYTES_MAX: Final = 64 << 20
"""Bytes of updates that may wait for one mirror; whole copies do not count, and come one after the other."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Batch:
    messages: tuple[StructureMessage, ...]
    bytes: int


@dataclass(slots=True)
class _Listener:
    link: Link[StructureMessage]
    instance: str
    is_jammed: bool = False
    waiting_bytes: int = 0
    reached: Version | None = None
    queue: asyncio.Queue[_Batch | None] = field(default_factory=asyncio.Queue)


class Audience:
    """All connected mirrors of this agent's program. told: takes what they do, while this is the primary."""

    def __init__(self) -> None:
        self._told: Callable[[FeedEvent], None] | None = None
        self._listeners: dict[int, _Listener] = {}
        self._next = 1
        self._holders = Holders(lambda: [(one.instance, one.reached) for one in self._listeners.values()])

    @property
    def count(self) -> int:
        """How many mirrors are connected."""
        return len(self._listeners)

    def open(self, told: Callable[[FeedEvent], None]) -> None:
        """This agent is the primary: mirrors are welcome from now on."""
        self._told = told

    def dismiss(self) -> None:
        """End all connections: what comes now is another stream, which mirrors join anew."""
        self._told = None
        for listener in self._listeners.values():
            listener.link.abort()

    def send(self, effect: Send) -> None:
        """Put messages into the queues of these mirrors."""
        size = sum(len(one.data) for one in effect.messages if isinstance(one, Change | Piece))
        for number in effect.subscribers:
            listener = self._listeners.get(number)
            if listener is None or listener.is_jammed:
                continue
            if effect.may_drop and listener.waiting_bytes + size > WAITING_BYTES_MAX:
                listener.is_jammed = True
                log.warning("a mirror does not keep up", instance=listener.instance, bytes=listener.waiting_bytes)
                self._tell(Jammed(number))
                continue
            counted = size if effect.may_drop else 0
            listener.waiting_bytes += counted
            listener.queue.put_nowait(_Batch(effect.messages, counted))

    def drop(self, effect: Drop) -> None:
        """Say goodbye to a mirror, and end its connection."""
        listener = self._listeners.get(effect.subscriber)
        if listener is not None:
            log.warning("a mirror is dropped", instance=listener.instance, reason=effect.reason)
            listener.queue.put_nowait(_Batch((Bye(effect.reason),), 0))
            listener.queue.put_nowait(None)

    async def attend(self, link: Link[StructureMessage]) -> None:
        """Serve one connection until it ends."""
        try:
            async with asyncio.timeout(JOIN_S):
                first = await link.receive()
        except TimeoutError:
            await link.send(Bye(f"nothing was said within {JOIN_S:g} s"))
            return
        if not isinstance(first, Join):
            await link.send(Bye("who joins says so first"))
            return
        if self._told is None:
            await link.send(Bye("this instance is not the primary"))
            return
        number, self._next = self._next, self._next + 1
        listener = self._listeners[number] = _Listener(link, first.instance)
        sender = asyncio.create_task(self._send(number, listener))
        log.info("a mirror joins", instance=first.instance, node=link.peer, holds=str(first.holds))
        told = self._told
        told(Joined(number, first.program, first.instance, first.incarnation, first.holds, link.token))
        try:
            await self._receive(told, number, listener)
        finally:
            del self._listeners[number]
            told(Left(number))
            listener.queue.put_nowait(None)
            await sender
            log.info("a mirror has gone", instance=first.instance)

    async def reached(self, version: Version, *, patient: bool = False) -> tuple[str, ...]:
        """See `Holders.of`."""
        return await self._holders.of(version, patient=patient)

    def _tell(self, event: FeedEvent) -> None:
        """Soon: whoever is just being told something is not to be told more in the middle of it."""
        asyncio.get_running_loop().call_soon(lambda: self._told(event) if self._told is not None else None)

    async def _send(self, number: int, listener: _Listener) -> None:
        try:
            while (batch := await listener.queue.get()) is not None:
                # One by one: a whole copy is not encrypted all at once, while others wait for this loop.
                for message in batch.messages:
                    await listener.link.send(message)
                listener.waiting_bytes -= batch.bytes
                if listener.is_jammed and listener.queue.empty():
                    listener.is_jammed = False
                    self._tell(Flowing(number))
        except LinkLost:
            pass
        listener.link.abort()

    async def _receive(self, told: Callable[[FeedEvent], None], number: int, listener: _Listener) -> None:
        while (message := await listener.link.receive()) is not None:
            match message:
                case Want():
                    told(Wants(number, message))
                case Reached(version):
                    told(Has(number, version))
                    listener.reached = version
                    await self._holders.changed()
                case Bye(reason):
                    log.info("a mirror says goodbye", instance=listener.instance, reason=reason)
                    return
                case _:
                    await listener.link.send(Bye(f"a mirror does not send {type(message).__name__}"))
                    return
