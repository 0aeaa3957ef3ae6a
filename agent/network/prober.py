"""Performs what `agent.network.connections` decides: listens to the clients, asks, pokes, resets."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import structlog

from agent.errors import KernelError
from agent.kernel.packet import ACK, RST, SYN, Address, Segment, SegmentSender, SegmentTap
from agent.kernel.sock_diag import SocketDiagnosis
from agent.network.connection_probe import probe
from agent.network.connections import (
    Connection,
    Connections,
    Due,
    Effect,
    Expected,
    Finished,
    Heard,
    Poke,
    Probe,
    Reset,
    Verdict,
)
from agent.network.former_sockets import end_former_sockets

log = structlog.get_logger()

_POKES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program's connections in a takeover.

    restored: connections of the checkpoint that were made again. Of these, survived go on, reset could not be
    continued, and silent have not answered (their clients are away; nothing was sent to them). poked: connections that
    were not restored, whose clients were made to notice it.
    """

    restored: int
    survived: int
    reset: int
    silent: int
    poked: int


class Prober:
    """Watches the clients of one takeover. Made ahead, in the node's network namespace; `arm` before the address is
    claimed, `begin` when the sockets have left repair mode, then `run` in the event loop."""

    def __init__(self, addresses: Sequence[Address], interface: str) -> None:
        self._addresses = addresses
        self._mine = {str(address) for address in addresses}
        self._tap: SegmentTap | None = SegmentTap(addresses, interface, outgoing=False)
        self._sender = SegmentSender()
        self._diagnosis = SocketDiagnosis()
        self._connections: Connections | None = None
        self._restored = 0
        self._guesses: list[Connection] = []
        self._done = asyncio.Event()
        self._random = random.Random()

    def end_former(self) -> int:
        """See `end_former_sockets`: before the barrier is lifted. Raises KernelError."""
        return end_former_sockets(self._diagnosis, self._addresses)

    def arm(self) -> None:
        """Hear everything from now on."""
        if self._tap is not None:
            self._tap.start()

    def poke(self, strangers: Iterable[Connection]) -> None:
        """Make the clients of these connections show themselves now: the address is here, and nothing of theirs is.

        From the tracer thread, in the middle of a takeover: `begin` comes when that is over, and again if need be.
        """
        self._perform([Poke(one) for one in strangers if one[0] in self._mine])

    def begin(
        self,
        restored: Collection[Expected],
        opened: Iterable[Connection],
        *,
        exact: bool,
        outage_ms: float,
        guesses: Iterable[Connection] = (),
    ) -> None:
        """Take up the restored connections, and poke those that were announced as `opened` and are not among them.

        guesses: connections that may exist (`agent.network.newcomers`); poked once each, by `run`, and not counted.
        exact: the records are from after the program's last moment; nothing has to be asked then. Connections of other
        addresses than those watched are none of its business.
        """
        restored = [one for one in restored if one.connection[0] in self._mine]
        known = {one.connection for one in restored}
        self._restored = len(known)
        strangers = [one for one in opened if one not in known]
        self._guesses = [one for one in guesses if one not in known]
        self._connections = Connections(() if exact else restored, strangers, outage_ms)
        self._perform(self._connections.start(_now_ms()))

    async def run(self) -> Outcome:
        """Ask and listen until all is decided, some seconds at most; then give what became of all."""
        connections, tap = self._connections, self._tap
        if connections is None or tap is None:
            raise RuntimeError("a prober runs after it has begun")
        loop = asyncio.get_running_loop()
        loop.add_reader(tap.fileno(), self._read)
        try:
            await self._poke_guesses()
            while not self._done.is_set():
                due_ms = connections.due_ms()
                wait_s = max((due_ms or 0.0) - _now_ms(), 0.0) / 1000
                try:
                    await asyncio.wait_for(self._done.wait(), wait_s)
                except TimeoutError:
                    self._perform(connections.step(_now_ms(), Due()))
        finally:
            loop.remove_reader(tap.fileno())
            self._tap = None
            await loop.run_in_executor(None, tap.close)
        return self.outcome()

    def outcome(self) -> Outcome:
        """What became of the connections so far."""
        connections = self._connections
        if connections is None:
            return Outcome(0, 0, 0, 0, 0)
        reset, silent = connections.count(Verdict.RESET), connections.count(Verdict.SILENT)
        return Outcome(self._restored, self._restored - reset - silent, reset, silent, connections.poked)

    def close(self) -> None:
        """Close what is open."""
        if self._tap is not None:
            self._tap.close()
            self._tap = None
        self._sender.close()
        self._diagnosis.close()

    # ---------------------------------------------------------------- inside

    async def _poke_guesses(self) -> None:
        guesses, self._guesses = self._guesses, []
        for number, connection in enumerate(guesses, 1):
            self._perform([Poke(connection)])
            if number % _POKES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _read(self) -> None:
        if self._tap is None or self._connections is None:
            return
        for segment in self._tap.read():
            self._perform(self._connections.step(_now_ms(), _heard(segment)))

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Probe(expected):
                    probe(self._sender, expected)
                case Poke(connection):
                    self._send(connection, self._random.getrandbits(32), self._random.getrandbits(32), ACK)
                case Reset(connection, acknowledgement):
                    self._reset(connection, acknowledgement)
                case Finished():
                    self._done.set()

    def _reset(self, connection: Connection, acknowledgement: int | None) -> None:
        local, local_port, peer, peer_port = connection
        try:
            self._diagnosis.destroy(ip_address(local), local_port, ip_address(peer), peer_port)
        except KernelError as error:
            # Its client learns of it all the same; the program when it next writes or its keepalive asks.
            log.warning("a connection could not be ended", reason=error.what)
        if acknowledgement is not None:
            self._send(connection, acknowledgement, 0, RST)

    def _send(self, connection: Connection, sequence: int, ack: int, flags: int) -> None:
        local, local_port, peer, peer_port = connection
        self._sender.send(
            ip_address(local),
            local_port,
            ip_address(peer),
            peer_port,
            sequence=sequence & 0xFFFFFFFF,
            ack=ack,
            flags=flags,
        )


def _heard(segment: Segment) -> Heard:
    return Heard(
        (str(segment.destination), segment.destination_port, str(segment.source), segment.source_port),
        segment.sequence,
        segment.acknowledgement,
        segment.data_bytes,
        segment.echo,
        reset=bool(segment.flags & RST),
        opening=bool(segment.flags & SYN),
    )


def _now_ms() -> float:
    return time.monotonic() * 1000
