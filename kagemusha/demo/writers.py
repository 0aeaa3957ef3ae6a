"""The client's connections: one that writes all the time, one that connects anew for each write, one that idles.

Each is driven by its owner's epoll loop: `readable`, `writable` and `due` are called, nothing here waits. A broken
connection comes back as with a real client library: at once, then after 1, 2, 4, ... 16 ms.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import Protocol

from kagemusha.demo.ledger import HUNG_AFTER_NS, SLOTS, Connection, Kind
from kagemusha.demo.resp import NOTHING, PING, PONG, bulk, number_reply, parse_number
from transport.errors import FrameError

READ = select.EPOLLIN | select.EPOLLRDHUP
BACK_OFF_NS_MAX = 16_000_000
ANEW_PAUSE_NS = 5_000_000
_WRITE_END = bulk(b"GET")


class Loop(Protocol):
    """What a connection needs of the loop that drives it."""

    target: tuple[str, int]

    def watch(self, fd: int, mask: int, on_event: Callable[[int], None]) -> None:
        """Call `on_event(events)` when epoll has events of `mask` for the descriptor."""

    def forget(self, fd: int) -> None:
        """Stop watching."""

    def later(self, at_ns: int, call: Callable[[], None]) -> None:
        """Call once at a time of the monotonic clock."""

    def wants_to_send(self, writer: Writer) -> None:
        """The writer may send its next write as soon as the rate allows."""


class Client:
    """A connection with its ledger: connects, notices its end, comes back."""

    def __init__(self, loop: Loop, kind: Kind, number: int) -> None:
        self.loop = loop
        self.seen = Connection(kind, number)
        self.sock: socket.socket | None = None
        self.asked_ns = 0
        self._back_off_ns = 0

    def connect(self) -> None:
        """Begin to connect; `connected` follows, or a new attempt."""
        self.asked_ns = monotonic_ns()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        code = sock.connect_ex(self.loop.target)
        if code not in (0, errno.EINPROGRESS):
            self.broken()
            return
        self.loop.watch(sock.fileno(), READ | select.EPOLLOUT, self._connecting)

    def _connecting(self, _events: int) -> None:
        assert self.sock is not None
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.broken()
            return
        self.loop.forget(self.sock.fileno())
        self.loop.watch(self.sock.fileno(), READ, self.readable)
        self.asked_ns = 0
        self.connected()

    def connected(self) -> None:
        """The connection is there."""

    def readable(self, events: int) -> None:
        """There is a reply, or the connection's end."""
        raise NotImplementedError

    def received(self) -> bytes | None:
        """What has come; None: nothing yet; b"": the connection's end."""
        assert self.sock is not None
        try:
            return self.sock.recv(512)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def good(self) -> None:
        """A good reply has come."""
        self.seen.replies_ns.append(monotonic_ns())
        self.asked_ns = 0
        self._back_off_ns = 0

    def close(self) -> None:
        """Give the socket up."""
        if self.sock is not None:
            self.loop.forget(self.sock.fileno())
            self.sock.close()
            self.sock = None

    def broken(self) -> None:
        """The connection ended though nobody asked it to; come back after the back-off."""
        self.close()
        now_ns = monotonic_ns()
        self.seen.resets_ns.append(now_ns)
        self.loop.later(now_ns + self._back_off_ns, self.connect)
        self._back_off_ns = min(max(2 * self._back_off_ns, 1_000_000), BACK_OFF_NS_MAX)

    def look_for_hang(self, now_ns: int) -> None:
        """A request (or an attempt to connect) without an answer or an error for 5 s is a hang: noted, begun anew."""
        if self.asked_ns and now_ns - self.asked_ns > HUNG_AFTER_NS:
            self.seen.hangs_ns.append(now_ns)
            self.close()
            self.connect()


class Writer(Client):
    """Sends numbered writes, one at a time; `anew`: each on a connection of its own."""

    def __init__(self, loop: Loop, kind: Kind, number: int) -> None:
        super().__init__(loop, kind, number)
        self.anew = kind == "anew"
        keys = [b"%b:%d:%d" % (b"n" if self.anew else b"w", number, slot) for slot in range(SLOTS)]
        self._heads = [b"*4\r\n" + bulk(b"SET") + bulk(key) for key in keys]
        self._expected = NOTHING
        self._received = b""

    def connected(self) -> None:
        """Write, or write again what was not answered."""
        self._received = b""
        self.loop.wants_to_send(self)

    def send(self) -> None:
        """Send the next write; a writer that broke while it waited for its turn has two, and takes one."""
        if self.sock is None or self.asked_ns:
            return
        number = self.seen.next_write
        text = b"%d" % number
        self._expected = number_reply(self.seen.expected())
        self.asked_ns = monotonic_ns()
        try:
            self.sock.send(b"%b$%d\r\n%b\r\n%b" % (self._heads[number % SLOTS], len(text), text, _WRITE_END))
        except OSError:
            self.broken()

    def readable(self, events: int) -> None:
        """Take the reply of the outstanding write; it is good when it is complete."""
        data = self.received()
        if data is None:
            return
        if not data:
            self.broken()
            return
        if data != self._expected and not self._check(data):
            return
        self.good()
        if self.anew:
            self.close()
            self.loop.later(self.seen.replies_ns[-1] + ANEW_PAUSE_NS, self.connect)
        else:
            self.loop.wants_to_send(self)

    def _check(self, data: bytes) -> bool:
        """The slow way: a reply in pieces, one that is not what was expected, an error. True when it is complete."""
        self._received += data
        try:
            previous = parse_number(self._received)
        except FrameError as error:
            self.seen.foreign.append(error.what)
            self.broken()
            return False
        if previous is None:
            return False
        self._received = b""
        if previous != self.seen.expected():
            self.seen.unexpected(previous, monotonic_ns())
        return True


class Idler(Client):
    """Says PING when asked to, and nothing in between."""

    def __init__(self, loop: Loop, number: int) -> None:
        super().__init__(loop, "idle", number)
        self._wanted = False

    def connected(self) -> None:
        """Ask, if that was wanted while there was no connection, or was not answered by the one that broke."""
        if self._wanted:
            self.ping()

    def broken(self) -> None:
        """As with every client; the question stands."""
        self._wanted = self._wanted or self.asked_ns != 0
        super().broken()

    def ping(self) -> None:
        """Ask; the answer, an error or a hang follows. Without a connection: as soon as there is one."""
        self._wanted = self.sock is None or self.asked_ns != 0
        if self.sock is None or self.asked_ns:
            return
        self.asked_ns = monotonic_ns()
        try:
            self.sock.send(PING)
        except OSError:
            self.broken()

    def readable(self, events: int) -> None:
        """PONG, or the end."""
        data = self.received()
        if data is None:
            return
        if data == PONG:
            self.good()
            return
        if data:
            self.seen.foreign.append(f"redis answers {data[:80]!r} to PING")
        self.broken()
