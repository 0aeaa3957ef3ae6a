"""The mirrors that are connected to a primary: one link, one queue and one sender for each.

The event loop's side of `agent.primary.publication`: it carries messages out, and acknowledgements and refusals in.
A queue is bounded by the publisher's credit: at most two checkpoints, or one chunk of a full transfer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from agent.holders import Holders
from agent.primary.publication import Publication
from agent.tracing.tracer import Tracer
from transport.checkpoint import NOTHING, Version
from transport.link import Link, LinkLost
from transport.messages import Ack, Announce, Bye, Refuse, SampleHeld, StreamMessage, Subscribe
from transport.pubsub import Acked, Gone, PublisherEvent, Refused, Subscribed

SUBSCRIBE_S = 5.0
ACK_S_MAX = 5.0
"""How long a mirror may take to acknowledge the last checkpoint of a program."""

log = structlog.get_logger()


@dataclass(slots=True)
class Listener:
    """One connected mirror. acked: the newest version that it holds."""

    link: Link[StreamMessage]
    instance: str
    incarnation: int
    acked: Version = NOTHING
    queue: asyncio.Queue[tuple[Sequence[StreamMessage], bool] | None] = field(default_factory=asyncio.Queue)


class Audience:
    """All connected mirrors of this agent's program."""

    def __init__(self, tracer: Tracer, loop: asyncio.AbstractEventLoop) -> None:
        self._tracer = tracer
        self._loop = loop
        self._publication: Publication | None = None
        self._listeners: dict[int, Listener] = {}
        self._next = 1
        self._holders = Holders(lambda: [(one.instance, one.acked) for one in self._listeners.values()])
        self.on_progress: Callable[[str, int, Version], None] = lambda instance, incarnation, version: None
        """Told of the first acknowledgement over each connection: instance, incarnation, version."""

    @property
    def count(self) -> int:
        """How many mirrors are connected."""
        return len(self._listeners)

    def open(self, publication: Publication) -> None:
        """This agent is the primary: subscribers are welcome from now on."""
        self._publication = publication

    def dismiss(self) -> None:
        """End all connections: what comes now is another stream, to which mirrors subscribe anew."""
        for listener in self._listeners.values():
            listener.link.abort()

    async def attend(self, link: Link[StreamMessage]) -> None:
        """Serve one connection until it ends."""
        publication = self._publication
        try:
            async with asyncio.timeout(SUBSCRIBE_S):
                first = await link.receive()
        except TimeoutError:
            await link.send(Bye(f"no subscription within {SUBSCRIBE_S:g} s"))
            return
        if not isinstance(first, Subscribe):
            await link.send(Bye("a subscription comes first"))
            return
        if publication is None:
            await link.send(Bye("this instance is not the primary"))
            return
        number, self._next = self._next, self._next + 1
        listener = Listener(link, first.instance, first.incarnation)
        self._listeners[number] = listener
        sender = asyncio.create_task(self._send(number, listener))
        log.info("a mirror subscribes", instance=first.instance, node=link.peer, holds=str(first.holds))
        subscribed = Subscribed(number, first.program, first.instance, first.incarnation, first.holds, link.token)
        self._post(publication, subscribed)
        try:
            await self._receive(publication, number, listener)
        finally:
            del self._listeners[number]
            self._post(publication, Gone(number))
            listener.queue.put_nowait(None)
            await sender
            log.info("a mirror has gone", instance=first.instance)

    async def acknowledged(self, version: Version, *, patient: bool = False) -> tuple[str, ...]:
        """See `Holders.of`."""
        return await self._holders.of(version, patient=patient)

    def announce(self, announcement: Announce) -> None:
        """Tell all mirrors at once which connections came and went."""
        for listener in self._listeners.values():
            listener.queue.put_nowait(([announcement], False))

    def deliver(self, subscriber: int, messages: Sequence[StreamMessage], *, more: bool) -> None:
        """See `publication.Outlet`; called in the tracer thread."""
        self._loop.call_soon_threadsafe(self._enqueue, subscriber, messages, more)

    def drop(self, subscriber: int, reason: str) -> None:
        """See `publication.Outlet`; called in the tracer thread."""
        log.warning("a mirror is dropped", subscriber=subscriber, reason=reason)
        self._loop.call_soon_threadsafe(self._enqueue, subscriber, [Bye(reason)], False)
        self._loop.call_soon_threadsafe(self._finish, subscriber)

    def _enqueue(self, subscriber: int, messages: Sequence[StreamMessage], more: bool) -> None:
        listener = self._listeners.get(subscriber)
        if listener is not None:
            listener.queue.put_nowait((messages, more))

    def _finish(self, subscriber: int) -> None:
        listener = self._listeners.get(subscriber)
        if listener is not None:
            listener.queue.put_nowait(None)

    async def _send(self, number: int, listener: Listener) -> None:
        try:
            while (item := await listener.queue.get()) is not None:
                messages, more = item
                await listener.link.send(*messages)
                publication = self._publication
                if more and publication is not None:
                    self._tracer.post(partial(publication.more, number))
        except LinkLost:
            pass
        listener.link.abort()

    async def _receive(self, publication: Publication, number: int, listener: Listener) -> None:
        while (message := await listener.link.receive()) is not None:
            match message:
                case Ack(version):
                    self._post(publication, Acked(number, version))
                    await self._note(listener, version)
                case Refuse(holds, reason):
                    log.warning("a mirror refuses", instance=listener.instance, holds=str(holds), reason=reason)
                    self._post(publication, Refused(number, holds, reason))
                case SampleHeld():
                    self._tracer.post(partial(publication.samples.held, number, message))
                case Bye(reason):
                    log.info("a mirror says goodbye", instance=listener.instance, reason=reason)
                    return
                case _:
                    await listener.link.send(Bye(f"a mirror does not send {type(message).__name__}"))
                    return

    async def _note(self, listener: Listener, version: Version) -> None:
        first, listener.acked = listener.acked == NOTHING, version
        await self._holders.changed()
        if first:
            self.on_progress(listener.instance, listener.incarnation, version)

    def _post(self, publication: Publication, event: PublisherEvent) -> None:
        self._tracer.post(partial(publication.event, event))
