"""From records to live sockets: the second half of a takeover for TCP and UDP.

The kinds have made empty sockets at the right numbers of the shadow. This room configures them from outside, through
duplicates that exist only while the shadow stands still: three times cheaper than injected calls, it needs no privilege
of the program's user, and one connection that can't be made again costs that connection, not the takeover.

    configure()   BEFORE the address is on this node: a segment that finds the address but no socket draws a reset.
    finish()      AFTER it was claimed and announced: connections leave repair mode.

What the peer has not acknowledged is the delicate part: it may have it or not, and nobody knows how much of it was ever
sent. If it is sent as new while the peer already acknowledges more, the connection stalls; if it counts as sent, the
kernel waits for its initial timeout of one second before it sends it again. So it counts as sent, and the peer is asked
by one probe segment. Its answer tells the kernel what it has, and the connection is made once more without that: the
rest goes out as new, at once.
"""

from __future__ import annotations

import errno
import socket
import time
from dataclasses import dataclass, replace
from typing import Final

from agent.context.by_kind import records_of_kind
from agent.context.record import unpack
from agent.context.socket_options import SO_REUSEADDR, SOL, OptionPlan, option_plan
from agent.context.tcp import BUSY, HALF_CLOSED, LISTENING, UNCONNECTED, Tcp, decoded
from agent.context.udp import Udp
from agent.errors import KernelError, RestoreError
from agent.kernel import tcp_repair
from agent.kernel.namespaces import in_network_namespace
from agent.kernel.packet import SegmentSender
from agent.kernel.pidfd import get_descriptor
from agent.kernel.tcp_repair import CLOCK_BIT, OPTION_TIMESTAMPS, Connection, adopt, discard
from agent.network.connection_probe import probe
from agent.network.connections import Connection as Ends
from agent.network.connections import Expected
from transport.checkpoint import Records

_CLOCK_MARGIN_MS: Final = 10
_CLOCK_MARGIN_OLDER_MS: Final = 500
_POLL_S: Final = 0.0001
_POLLS: Final = 50
_SEGMENTS_IN_AT: Final = 140


@dataclass(slots=True, eq=False)
class _Pending:
    number: int
    record: Tcp
    plan: OptionPlan
    state: Connection
    expected: Expected
    socket: socket.socket


class RestoredSockets:
    """The network sockets of one takeover. Use `configure`, then `finish`; `abandon` gives up in between.

    exact: the records are from after the program's last moment, with the address gone (last gasp, planned switch).
    Otherwise the peer may have seen more than they know: each connection may send nothing before its peer has answered
    in accord with its record (its window is closed, so the kernel itself waits), see `agent.network.connections`.
    connections: that were made again. unfinished: that were BUSY; the program finds a socket that is not connected.
    failed: what could not be made again, with the reasons.
    """

    def __init__(self, pidfd: int, *, exact: bool, now_ms: int | None = None) -> None:
        """pidfd: of the shadow. now_ms: CLOCK_REALTIME."""
        self._pidfd = pidfd
        self._exact = exact
        self._now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        self._pending: list[_Pending] = []
        self.connections: list[Expected] = []
        self.unfinished: list[Ends] = []
        self.failed: list[str] = []

    def configure(self, records: Records) -> None:
        """Make of empty sockets what records say. Connections stay in repair mode.

        Raises RestoreError if a socket that is no connection can't be made (its port is taken on this node).
        """
        sockets = [(number, decoded(data)) for number, data in records_of_kind(records, "tcp")]
        sockets.sort(key=lambda one: one[1].role != LISTENING)
        for number, record in sockets:
            if record.role in (UNCONNECTED, LISTENING):
                self._passive(number, record)
            elif record.role == BUSY:
                self._passive(number, replace(record, local=b""))
                self.unfinished.append((*tcp_repair.endpoint(record.local), *tcp_repair.endpoint(record.peer)))
            else:
                self._connection(number, record)
        for number, data in records_of_kind(records, "udp"):
            self._datagrams(number, unpack(Udp, data))

    def finish(self) -> None:
        """Let the connections go on; the address must be on this node, and announced.

        A connection from an address that is another node's own can't go on: the program sees ECONNABORTED.
        """
        self._end_strangers()
        for one in self._pending:
            tcp_repair.leave(one.socket, probe=bool(one.state.send_queue) or not self._exact)
        asked = [one for one in self._pending if one.state.send_queue]
        if asked:
            self._ask(asked)
        for _ in range(_POLLS):  # not until a deadline: whoever is kept from running has heard nobody yet
            if not asked:
                break
            time.sleep(_POLL_S)
            for one in [one for one in asked if _has_answer(one.socket)]:
                self._send_rest(one)
                asked.remove(one)
        for one in self._pending:
            self._conclude(one)
        self._pending = []

    def abandon(self) -> None:
        """Close the duplicates; connections in repair mode end silently with the shadow."""
        for one in self._pending:
            discard(one.socket)
        self._pending = []

    # ---------------------------------------------------------------- inside

    def _duplicate(self, number: int, family: int, kind: int) -> socket.socket:
        return adopt(get_descriptor(self._pidfd, number), family, kind)

    def _passive(self, number: int, record: Tcp) -> None:
        one = self._duplicate(number, record.family, socket.SOCK_STREAM)
        plan = option_plan(record.options, record.family, socket.SOCK_STREAM)
        try:
            # Between binding and listening nobody else can have the port, whatever the program itself wanted.
            one.setsockopt(SOL, SO_REUSEADDR, 1)
            plan.begin(one)
            if record.local:
                tcp_repair.bind(one, record.local)
            if record.role == LISTENING:
                one.listen(record.backlog)
            plan.end(one)
        except (KernelError, OSError) as error:
            raise _not_restored(number, record.local, error) from error
        finally:
            discard(one)

    def _datagrams(self, number: int, record: Udp) -> None:
        one = self._duplicate(number, record.family, socket.SOCK_DGRAM)
        plan = option_plan(record.options, record.family, socket.SOCK_DGRAM)
        try:
            one.setsockopt(SOL, SO_REUSEADDR, plan.reuse_address)
            plan.begin(one)
            if record.local:
                tcp_repair.bind(one, record.local)
            if record.peer:
                tcp_repair.connect(one, record.peer)
            plan.end(one)
        except (KernelError, OSError) as error:
            raise _not_restored(number, record.local, error) from error
        finally:
            discard(one)

    def _connection(self, number: int, record: Tcp) -> None:
        recorded = record.state()
        state = self._at_this_time(recorded, record.captured_ms)
        one = self._duplicate(number, record.family, socket.SOCK_STREAM)
        plan = option_plan(record.options, record.family, socket.SOCK_STREAM)
        try:
            plan.begin(one)
            plan.make_room(one, len(state.send_queue), len(state.receive_queue))
            tcp_repair.begin(one, state)
            tcp_repair.bind(one, record.local)
            tcp_repair.connect(one, record.peer)
            tcp_repair.complete(one, state)
        except (KernelError, OSError) as error:
            # The program finds a socket that is not connected, and closes it.
            self.failed.append(f"descriptor {number}: {error}")
            tcp_repair.leave(one, probe=False)
            discard(one)
            return
        clock = recorded.timestamp if recorded.options & OPTION_TIMESTAMPS else None
        between = (*tcp_repair.endpoint(record.local), *tcp_repair.endpoint(record.peer))
        expected = Expected(between, state.send_unacknowledged, state.send_next, state.receive_next, clock)
        self.connections.append(expected)
        self._pending.append(_Pending(number, record, plan, state, expected, one))

    def _at_this_time(self, state: Connection, captured_ms: int) -> Connection:
        """The peer drops segments whose timestamps are older than what it has seen, so the clock goes on from the
        record's moment, with a margin for clocks of nodes that differ and for what was sent after the record."""
        margin_ms = _CLOCK_MARGIN_MS if self._exact else _CLOCK_MARGIN_OLDER_MS
        clock = state.timestamp + max(self._now_ms - captured_ms, 0) + margin_ms
        clock = clock & ~CLOCK_BIT | state.timestamp & CLOCK_BIT
        window = state.window if self._exact else replace(state.window, send=0)
        return replace(state, timestamp=clock & 0xFFFFFFFF, window=window)

    def _end_strangers(self) -> None:
        with in_network_namespace(self._pidfd):
            here = {local: _is_here(local) for local in {_without_port(one.record.local) for one in self._pending}}
        if all(here.values()):
            return
        for one in self._pending:
            if not here[_without_port(one.record.local)]:
                where = tcp_repair.readable_address(one.record.local)
                self.failed.append(f"descriptor {one.number}: the connection from {where} belongs to another node")
                tcp_repair.disconnect(one.socket, forget=False)
                tcp_repair.leave(one.socket, probe=False)
                discard(one.socket)
        self._pending = [one for one in self._pending if here[_without_port(one.record.local)]]
        going_on = {tcp_repair.endpoint(one.record.local) for one in self._pending}
        self.connections = [one for one in self.connections if one.connection[:2] in going_on]

    def _ask(self, pending: list[_Pending]) -> None:
        with in_network_namespace(self._pidfd):
            sender = SegmentSender()
        for one in pending:
            probe(sender, one.expected)
        sender.close()

    def _send_rest(self, one: _Pending) -> None:
        """Make the connection once more, without what the peer turned out to have, and send it what it lacks."""
        try:
            state, _ = tcp_repair.read_connection(one.socket, keep_repair=True)
            if state.send_queue:
                empty = replace(state, send_next=state.send_unacknowledged, send_queue=b"")
                tcp_repair.disconnect(one.socket, forget=True)
                tcp_repair.begin(one.socket, empty)
                tcp_repair.connect(one.socket, one.record.peer)
                tcp_repair.complete(one.socket, empty)
            tcp_repair.leave(one.socket, probe=False)
            tcp_repair.fill(one.socket, state.send_queue)
        except (KernelError, OSError) as error:
            self.failed.append(f"descriptor {one.number}: {error}")

    def _conclude(self, one: _Pending) -> None:
        try:
            if one.record.role == HALF_CLOSED or one.record.shut:
                one.socket.shutdown(socket.SHUT_RD)
            one.plan.end(one.socket)
        except (KernelError, OSError) as error:
            self.failed.append(f"descriptor {one.number}: {error}")
        finally:
            discard(one.socket)


def _without_port(address: bytes) -> bytes:
    """The same address with port 0: any."""
    return address[:2] + bytes(2) + address[4:]


def _is_here(address: bytes) -> bool:
    """Whether this network namespace has the address."""
    with socket.socket(int.from_bytes(address[:2], "little"), socket.SOCK_DGRAM) as one:
        try:
            tcp_repair.bind(one, address)
        except KernelError:
            return False
    return True


def _has_answer(one: socket.socket) -> bool:
    """Whether the peer has sent anything since the connection was made again."""
    information = one.getsockopt(socket.IPPROTO_TCP, tcp_repair.TCP_INFO, _SEGMENTS_IN_AT + 4)
    return information[_SEGMENTS_IN_AT:] != bytes(4)


def _not_restored(number: int, local: bytes, error: Exception) -> RestoreError:
    hint = ""
    if getattr(error, "errno", 0) == errno.EADDRINUSE:
        hint = "another program on this node uses this port; stop it"
    return RestoreError(
        f"the socket of descriptor {number} at {tcp_repair.readable_address(local)}: {error}", hint=hint
    )
