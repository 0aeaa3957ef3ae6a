"""Connections of clients that may have come in a primary's last moments, too late to be announced. Pure.

An announcement takes a moment, and the node may be lost in it. A client that had connected then, and whose request the
lost kernel had acknowledged, has nothing to send again and would wait for ever. Nobody knows of it; but clients take
their ports in an order: Linux gives the connections from one host to one service ports of one parity, each 2 to 16
above the one before (inet_hash_connect: the offset is a hash of the two hosts and the port, and moves on by a small
random step). So the ports above the last that was heard of are the candidates. Poking one that is no connection does
nothing: its host answers with a reset that means nobody here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from agent.network.connections import Connection

PORT_FIRST, PORT_LAST = 32768, 60999
"""Linux's default net.ipv4.ip_local_port_range."""

_STEP: Final = 2
_CANDIDATES_PER_CONNECTION: Final = 8
_CANDIDATES_MIN: Final = 64
_CANDIDATES_MAX: Final = (PORT_LAST - PORT_FIRST + 1) // _STEP
_TOTAL_MAX: Final = 4 * _CANDIDATES_MAX
_LATENCY_MS: Final = 500
_OUTAGE_MS_MAX: Final = 3_000
_HOSTS_MAX: Final = 4096
_SECOND_MS: Final = 1000

Host = tuple[str, int, str]
"""The program's address and port, the client's address."""


@dataclass(slots=True)
class _Habit:
    """How a client host connects: its last port, when it was heard of, and how many connections it opened in the second
    that began at `second_ms` and in the one before."""

    port: int
    heard_ms: float
    second_ms: float
    count: int = 0
    before: int = 0


class Newcomers:
    """What a mirror hears of the clients' openings, and what it guesses from that."""

    def __init__(self) -> None:
        self._habits: dict[Host, _Habit] = {}

    def heard(self, opened: Iterable[Connection], now_ms: float) -> None:
        """These connections were opened, in this order."""
        for address, service_port, client, port in opened:
            host = (address, service_port, client)
            habit = self._habits.pop(host, None) or _Habit(port, now_ms, now_ms)
            self._habits[host] = habit  # the most recent one is the last
            if now_ms - habit.second_ms >= _SECOND_MS:
                habit.before = habit.count if now_ms - habit.second_ms < 2 * _SECOND_MS else 0
                habit.count, habit.second_ms = 0, now_ms
            habit.port, habit.heard_ms = port, now_ms
            habit.count += 1
        while len(self._habits) > _HOSTS_MAX:
            del self._habits[next(iter(self._habits))]

    def guesses(self, now_ms: float) -> list[Connection]:
        """Connections that may exist though they were not heard of; the likeliest of each host first."""
        found: list[Connection] = []
        for (address, service_port, client), habit in reversed(self._habits.items()):
            rate_per_ms = max(habit.count, habit.before) / _SECOND_MS
            unheard_ms = min(now_ms - habit.heard_ms, _OUTAGE_MS_MAX) + _LATENCY_MS
            count = _CANDIDATES_MIN + int(rate_per_ms * unheard_ms * _CANDIDATES_PER_CONNECTION)
            ports = islice(_ports_after(habit.port), min(count, _CANDIDATES_MAX, _TOTAL_MAX - len(found)))
            found.extend((address, service_port, client, port) for port in ports)
        return found


def _ports_after(port: int) -> Iterator[int]:
    """The ports of the same parity above it, and then those from the beginning of the range."""
    first, last = (PORT_FIRST, PORT_LAST) if PORT_FIRST <= port <= PORT_LAST else (1024, 65535)
    yield from range(port + _STEP, last + 1, _STEP)
    yield from range(first + (port - first) % _STEP, port, _STEP)
