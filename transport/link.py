"""A link: one mutually authenticated connection between two nodes that carries the messages of one conversation.

The asyncio adapter around `envelope`; works on asyncio's own loop and on uvloop. Both sides greet each other after the
TLS handshake: with TLS 1.3 a client learns only then whether its certificate was accepted (RFC 8446, section 4.4).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from transport.acceptor import Acceptor
from transport.codec import MessageSet
from transport.counters import Counters
from transport.envelope import Inbox, Outbox
from transport.errors import FrameError, KagemushaError, PeerRefused, StaleUpdate
from transport.frame import Buffer
from transport.tls import Tls, peer_node, refusal

M = TypeVar("M")

GREETING: Final = b"KGML\x01\x00\x00\x00"
HANDSHAKE_S: Final = 5.0
CLOSE_S: Final = 1.0
READ_BYTES: Final = 1 << 20
WRITE_BUFFER_BYTES: Final = 4 << 20
"""`send` waits while more than this is not yet with the kernel."""
USER_TIMEOUT_MS: Final = 10_000
"""Unacknowledged bytes for so long end the connection (tcp(7), TCP_USER_TIMEOUT): the node is gone."""
STRANGERS_MAX: Final = 64
"""Connections that may be in their handshake at once; what is beyond is closed."""
_JOIN_BYTES: Final = 1 << 16


class LinkLost(KagemushaError):
    """The connection broke; what was sent and not answered may have arrived or not."""


@dataclass(frozen=True, slots=True)
class Conversation(Generic[M]):
    """What is spoken on a link.

    token: gives the fencing token that this side knows now; a peer with a lower one is refused. counters: of refusals.
    """

    messages: MessageSet[M]
    token: Callable[[], int]
    counters: Counters = field(default_factory=Counters)


class Link(Generic[M]):
    """An open link. `peer`: the other node's id, out of its certificate; `where`: its address, for messages."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str, talk: Conversation[M]
    ) -> None:
        self.peer = peer
        self.where = _where(writer)
        token = talk.token()
        self._reader = reader
        self._writer = writer
        self._outbox = Outbox(talk.messages, token)
        self._inbox = Inbox(talk.messages, token, talk.counters)
        self._received: deque[M] = deque()
        self.bytes_sent = 0
        self.bytes_received = 0

    @property
    def token(self) -> int:
        """The highest fencing token that came over this link."""
        return self._inbox.token

    def raise_token(self, token: int) -> None:
        """Send, and expect, at least this fencing token from now on. Never lowers it."""
        self._outbox.token = max(self._outbox.token, token)
        self._inbox.token = max(self._inbox.token, token)

    async def send(self, *messages: M) -> None:
        """Send messages, in order; waits while more than WRITE_BUFFER_BYTES are not yet with the kernel.

        Calls from several tasks keep the order of the calls. Raises LinkLost.
        """
        pieces = [piece for message in messages for piece in self._outbox.seal(message)]
        self.bytes_sent += sum(map(len, pieces))
        try:
            for piece in _joined(pieces):
                self._writer.write(piece)
            await self._writer.drain()
            # asyncio's TLS transport does not say that it is closing when the socket broke (3.11): without this turn
            # of the loop, a sender that never fills the buffer would never hear of it.
            await asyncio.sleep(0)
        except (OSError, RuntimeError) as error:
            raise LinkLost(f"{self.peer} at {self.where}: {_plainly(error)}") from None

    async def receive(self) -> M | None:
        """Return the next message, or None when the peer has closed the link.

        Raises LinkLost when it broke, RefusedFrame or RefusedEnvelope (counted; the link is closed) when the peer sent
        what can't be accepted.
        """
        while not self._received:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError as error:
                raise LinkLost(f"{self.peer} at {self.where}: {_plainly(error)}") from None
            if not data:
                return None
            self.bytes_received += len(data)
            try:
                self._received.extend(self._inbox.feed(data))
            except (FrameError, StaleUpdate):
                self.abort()
                raise
        return self._received.popleft()

    async def close(self) -> None:
        """Close the link; what was sent is delivered if that takes no longer than CLOSE_S."""
        try:
            async with asyncio.timeout(CLOSE_S):
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Close the link at once; what was not delivered yet is lost."""
        self._writer.transport.abort()


def _joined(pieces: list[Buffer]) -> list[Buffer]:
    """Join small neighbours, so that a header does not become a TLS record and a packet of its own."""
    result: list[Buffer] = []
    small: list[Buffer] = []
    for piece in pieces:
        if len(piece) < _JOIN_BYTES:
            small.append(piece)
            continue
        if small:
            result.append(b"".join(small))
            small = []
        result.append(piece)
    if small:
        result.append(b"".join(small))
    return result


def _plainly(error: Exception) -> str:
    code = getattr(error, "errno", None)
    return os.strerror(code) if code else str(error) or type(error).__name__


def _where(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if name else "a closed connection"


def _tune(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    ):
        connection.setsockopt(level, option, value)
    writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)


async def _greeted(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, expected: str | None, talk: Conversation[M]
) -> Link[M]:
    """Make a link of a connection whose TLS handshake is done. Raises PeerRefused."""
    where = _where(writer)
    try:
        peer = peer_node(writer.get_extra_info("peercert"), where)
        if expected is not None and peer != expected:
            hint = "the address belongs to another node than the configuration says"
            raise PeerRefused(f"{where}: is node {peer}, not {expected}", hint=hint)
        _tune(writer)
        writer.write(GREETING)
        greeting = await reader.readexactly(len(GREETING))
        if greeting != GREETING:
            raise PeerRefused(
                f"{where}: node {peer} speaks another protocol", hint="run the same version on both nodes"
            )
    except asyncio.IncompleteReadError:
        writer.transport.abort()
        hint = "it may not accept our certificate: are both of the same cluster's authority?"
        raise PeerRefused(f"{where}: closed the connection before its greeting", hint=hint) from None
    except OSError as error:
        writer.transport.abort()
        raise refusal(error, where) from None
    except BaseException:
        writer.transport.abort()
        raise
    return Link(reader, writer, peer, talk)


async def connect(
    host: str, port: int, tls: Tls, expected: str | None, talk: Conversation[M], handshake_s: float = HANDSHAKE_S
) -> Link[M]:
    """Open a link to the node `expected` (None: any node of the cluster), within `handshake_s`.

    Raises PeerRefused: not reachable, not of this cluster, another node, or it does not accept us.
    """
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(handshake_s):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls.client, server_hostname=expected or "", limit=READ_BYTES
            )
            return await _greeted(reader, writer, expected, talk)
    except TimeoutError:
        raise PeerRefused(f"{where}: no answer within {handshake_s:g} s") from None
    except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
        raise refusal(error, where) from None
    except OSError as error:
        raise PeerRefused(f"{where}: {_plainly(error)}") from None


class LinkServer(Generic[M]):
    """Accepts links. `port`: the one it listens on. `refused`: the last refusals, `refused_count`: how many in all."""

    def __init__(
        self,
        listener: socket.socket,
        tls: Tls,
        on_peer: Callable[[Link[M]], Awaitable[None]],
        talk: Conversation[M],
        handshake_s: float,
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self.refused: deque[PeerRefused] = deque(maxlen=16)
        self.refused_count = 0
        self._tls = tls
        self._on_peer = on_peer
        self._talk = talk
        self._handshake_s = handshake_s
        self._strangers = 0
        self._acceptor = Acceptor(listener, self._serve)

    async def close(self) -> None:
        """Stop to accept, and end every link that was accepted. Raises what a call of `on_peer` last died of."""
        await self._acceptor.close()

    async def _serve(self, connection: socket.socket) -> None:
        if self._strangers >= STRANGERS_MAX:
            connection.close()
            self._refuse(PeerRefused(f"more than {STRANGERS_MAX} connections are in their handshake"))
            return
        self._strangers += 1
        try:
            link = await self._shaken(connection)
        except PeerRefused as error:
            self._refuse(error)
            return
        finally:
            self._strangers -= 1
        try:
            await self._on_peer(link)
        except (LinkLost, FrameError, StaleUpdate):
            pass
        except Exception as error:
            self._acceptor.note(error)
        finally:
            await link.close()

    async def _shaken(self, connection: socket.socket) -> Link[M]:
        """Return the link after both handshakes. Raises PeerRefused."""
        where = "a client"
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            where = "{}:{}".format(*connection.getpeername()[:2])
            async with asyncio.timeout(self._handshake_s):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, connection, ssl=self._tls.server, ssl_handshake_timeout=self._handshake_s
                )
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                return await _greeted(reader, writer, None, self._talk)
        except TimeoutError:
            raise PeerRefused(f"{where}: no handshake within {self._handshake_s:g} s") from None
        except OSError as error:
            raise refusal(error, where) from None

    def _refuse(self, error: PeerRefused) -> None:
        self.refused.append(error)
        self.refused_count += 1


async def serve(
    host: str,
    port: int,
    tls: Tls,
    on_peer: Callable[[Link[M]], Awaitable[None]],
    talk: Conversation[M],
    handshake_s: float = HANDSHAKE_S,
) -> LinkServer[M]:
    """Accept links on `host`:`port` (0: any free one); `on_peer` has each one until it returns, and then it is closed.

    Whoever fails the handshake never reaches `on_peer`; it is counted in `refused_count`. LinkLost, RefusedFrame and
    RefusedEnvelope may leave `on_peer`: they end that link. Raises PeerRefused when the address can't be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(STRANGERS_MAX)
    except OSError as error:
        listener.close()
        raise PeerRefused(f"can't listen on {host}:{port}: {_plainly(error)}") from None
    return LinkServer(listener, tls, on_peer, talk, handshake_s)
