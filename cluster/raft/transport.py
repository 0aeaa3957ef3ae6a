"""The links between the members: one for each pair, made by the one with the smaller id, kept up, greeted, bounded.

Messages are given away at once and sent by a task of each link; what can't be sent is dropped with its link, because
Raft sends again. A member with the greater id introduces itself once when it starts, so that it hears at once if it is
not welcome, and its peers dial at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from cluster.raft.greeting import duplicate, elsewhere, objection
from cluster.raft.times import Times
from cluster.raft.wire import WIRE, Alive, AppendEntries, Hello, InstallSnapshot, PeerMessage, RaftMessage, Refused
from transport.counters import Counters
from transport.errors import FrameError, PeerRefused, StaleUpdate
from transport.link import Conversation, Link, LinkLost, LinkServer, connect, serve
from transport.tls import Tls

HANDSHAKE_S: Final = 2.0
RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 0.5
RETRY_REFUSED_S: Final = 1.0
QUEUE_BYTES_MAX: Final = 32 << 20
_MESSAGE_BYTES: Final = 100

log = structlog.get_logger()

Address = tuple[str, int]
PeerLink = Link[PeerMessage]


class _Peer:
    """One other member: its link, if there is one, and what waits to be sent over it."""

    def __init__(self, node: str, address: Address) -> None:
        self.node = node
        self.address = address
        self.link: PeerLink | None = None
        self.instance = ""
        self.heard_s = float("-inf")
        self.sent_s = float("-inf")
        self.trouble = ""
        self.detached = asyncio.Event()
        self.redial = asyncio.Event()
        self.more = asyncio.Event()
        self.queue: deque[PeerMessage] = deque()
        self.queued_bytes = 0

    def attach(self, link: PeerLink, instance: str, now_s: float) -> None:
        self.link, self.instance = link, instance
        self.heard_s = self.sent_s = now_s
        self.trouble = ""
        self.detached.clear()
        self.drop()

    def detach(self) -> None:
        self.link = None
        self.detached.set()
        self.drop()

    def drop(self) -> None:
        self.queue.clear()
        self.queued_bytes = 0

    def take(self) -> list[PeerMessage]:
        messages = list(self.queue)
        self.drop()
        return messages


class Transport:
    """The links of one member.

    hello: what it says of itself. peers: where the others listen. on_message(peer, message), on_connection(peer, up):
    called in the event loop. clock: seconds, never stops. counters: what was refused of what came over the links.
    """

    def __init__(
        self,
        hello: Hello,
        own: Address,
        peers: Mapping[str, Address],
        tls: Tls,
        times: Times,
        on_message: Callable[[str, RaftMessage], None],
        on_connection: Callable[[str, bool], None],
        clock: Callable[[], float],
    ) -> None:
        self.counters = Counters()
        self._hello = hello
        self._own = own
        self._peers = {node: _Peer(node, address) for node, address in peers.items()}
        self._tls = tls
        self._times = times
        self._on_message = on_message
        self._on_connection = on_connection
        self._clock = clock
        self._talk: Conversation[PeerMessage] = Conversation(WIRE, lambda: 0, self.counters)
        self._server: LinkServer[PeerMessage] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen and begin to dial. Raises PeerRefused when the address can't be used."""
        self._server = await serve(*self._own, self._tls, self._accepted, self._talk, HANDSHAKE_S)
        self._tasks.append(asyncio.create_task(self._watch()))
        for peer in self._peers.values():
            work = self._dial(peer) if self._hello.node < peer.node else self._introduce(peer)
            self._tasks.append(asyncio.create_task(work))

    async def close(self) -> None:
        """End all links."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            server, self._server = self._server, None
            await server.close()

    def send(self, node: str, message: RaftMessage) -> bool:
        """Send as soon as may be, in order; return False if there is no link. What the link loses is lost."""
        return self._put(self._peers[node], message)

    def in_reach(self, node: str) -> bool:
        """Whether the node was heard a moment ago."""
        peer = self._peers[node]
        return peer.link is not None and self._clock() - peer.heard_s < self._times.reach_s

    @property
    def troubles(self) -> dict[str, str]:
        """Why there is no link, by peer, for those that there is a reason for."""
        return {node: peer.trouble for node, peer in self._peers.items() if peer.trouble}

    # Making links

    async def _dial(self, peer: _Peer) -> None:
        delay_s = RETRY_MIN_S
        while True:
            peer.redial.clear()
            try:
                async with asyncio.timeout(HANDSHAKE_S):
                    link, theirs = await self._greet(peer)
            except (PeerRefused, LinkLost, FrameError, StaleUpdate) as error:
                self._note(peer, error.what)
                delay_s = RETRY_REFUSED_S if isinstance(error, _NotWelcome) else min(2 * delay_s, RETRY_MAX_S)
            except TimeoutError:
                self._note(peer, f"node {peer.node} does not answer")
            else:
                try:
                    await self._converse(peer, theirs.instance, link)
                except (LinkLost, FrameError, StaleUpdate) as error:
                    self._note(peer, error.what)
                finally:
                    await link.close()
                delay_s = RETRY_MIN_S
            await _wait(peer.redial, delay_s)

    async def _introduce(self, peer: _Peer) -> None:
        """Say once who we are to a peer that will dial us."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                link, _ = await self._greet(peer)
                await link.close()
        except _NotWelcome as error:
            self._note(peer, error.what)
        except (PeerRefused, LinkLost, FrameError, StaleUpdate, TimeoutError):
            pass  # it is not there yet; when it is, it dials

    async def _greet(self, peer: _Peer) -> tuple[PeerLink, Hello]:
        """Connect and exchange Hellos. Raises PeerRefused, LinkLost, FrameError."""
        link = await connect(*peer.address, self._tls, peer.node, self._talk, HANDSHAKE_S)
        try:
            await link.send(self._hello)
            answer = await link.receive()
            if isinstance(answer, Refused):
                raise _NotWelcome(f"not accepted by node {peer.node}: {answer.reason}")
            if not isinstance(answer, Hello):
                raise LinkLost(f"node {peer.node} at {link.where} ended the conversation before its greeting")
            reason = objection(self._hello, answer, peer.node) or elsewhere(self._hello, answer, peer.node)
            if reason:
                raise _NotWelcome(reason)
        except BaseException:
            link.abort()
            raise
        return link, answer

    async def _accepted(self, link: PeerLink) -> None:
        """Serve a link that a peer has made."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                theirs = await link.receive()
        except TimeoutError:
            return
        if not isinstance(theirs, Hello):
            return
        peer = self._peers.get(link.peer)
        reason = objection(self._hello, theirs, link.peer)
        if not reason and peer is not None and await self._is_duplicate(peer, theirs.instance):
            reason = duplicate(peer.node, peer.link.where if peer.link else "elsewhere")
        reason = reason or elsewhere(self._hello, theirs, link.peer)
        if reason or peer is None:
            self._note(peer, reason, link.peer)
            await link.send(Refused(reason))
            return
        await link.send(self._hello)
        if peer.node < self._hello.node:
            await self._converse(peer, theirs.instance, link)
        else:
            peer.redial.set()

    async def _is_duplicate(self, peer: _Peer, instance: str) -> bool:
        """Whether another daemon than `instance` is connected as this peer, and speaks."""
        if peer.link is None or peer.instance == instance:
            return False
        # A node that was cut off and started anew comes before the old link is known to be dead.
        await _wait(peer.detached, self._times.reach_s)
        return self.in_reach(peer.node) and peer.instance != instance

    # Using them

    async def _converse(self, peer: _Peer, instance: str, link: PeerLink) -> None:
        if peer.link is not None:
            peer.link.abort()
            self._detach(peer)
        peer.attach(link, instance, self._clock())
        self._on_connection(peer.node, True)
        sender = asyncio.create_task(self._send_all(peer, link))
        try:
            while (message := await link.receive()) is not None:
                peer.heard_s = self._clock()
                if isinstance(message, Hello | Refused):
                    raise FrameError(f"node {peer.node} greets in the middle of the conversation")
                if not isinstance(message, Alive):
                    self._on_message(peer.node, message)
        finally:
            sender.cancel()
            if peer.link is link:
                self._detach(peer)

    def _detach(self, peer: _Peer) -> None:
        peer.detach()
        self._on_connection(peer.node, False)

    def _put(self, peer: _Peer, message: PeerMessage) -> bool:
        if peer.link is None:
            return False
        peer.queued_bytes += _weight(message)
        if peer.queued_bytes > QUEUE_BYTES_MAX:
            peer.link.abort()
            peer.drop()
            return False
        peer.queue.append(message)
        peer.more.set()
        return True

    async def _send_all(self, peer: _Peer, link: PeerLink) -> None:
        try:
            while True:
                await peer.more.wait()
                peer.more.clear()
                messages = peer.take()
                peer.sent_s = self._clock()
                await link.send(*messages)
        except LinkLost:
            link.abort()

    async def _watch(self) -> None:
        """Say that we are there where nothing else was said; end links on which nothing comes."""
        while True:
            await asyncio.sleep(self._times.alive_s)
            now = self._clock()
            for peer in self._peers.values():
                if peer.link is None:
                    continue
                if now - peer.heard_s > self._times.silence_s:
                    peer.trouble = f"nothing was heard of node {peer.node} for {self._times.silence_s:g} s"
                    peer.link.abort()
                elif now - peer.sent_s > 0.9 * self._times.alive_s:
                    self._put(peer, Alive())

    def _note(self, peer: _Peer | None, reason: str, node: str = "") -> None:
        if peer is None or (peer.link is None and peer.trouble != reason):
            log.warning("no link to a member", peer=peer.node if peer else node, reason=reason)
        if peer is not None and peer.link is None:
            peer.trouble = reason


class _NotWelcome(PeerRefused):
    """One of both sides does not accept the other's Hello."""


def _weight(message: PeerMessage) -> int:
    if isinstance(message, AppendEntries):
        return _MESSAGE_BYTES + sum(len(command) for _, command in message.entries)
    return _MESSAGE_BYTES + (len(message.data) if isinstance(message, InstallSnapshot) else 0)


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        pass
