"""How near the other nodes are, by heartbeats that are told back: no message is sent for it. Pure.

Every heartbeat names, for each other node, the newest one that came from there and how long ago that was (as NTP does,
RFC 5905, section 8). Who finds its own among them subtracts: no two clocks are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Final

from cluster.node.messages import Echo
from cluster.registry.values import NodeId

WEIGHT: Final = 1 / 8
"""Of a new round trip in the smoothed one (RFC 6298, section 2)."""


class RoundTrips:
    """Of one node; all times are its CLOCK_BOOTTIME, in nanoseconds."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._heard: dict[NodeId, tuple[int, int]] = {}
        self._smoothed_ms: dict[NodeId, float] = {}

    def heard(self, now_ns: int, node: NodeId, sent_ns: int, echoes: Iterable[Echo]) -> None:
        """A heartbeat of another node, sent at `sent_ns` of its own clock."""
        self._heard[node] = (sent_ns, now_ns)
        for echo in echoes:
            took_ms = (now_ns - echo.sent_ns - echo.held_ns) / 1e6
            if echo.node == self._own and took_ms >= 0:
                before_ms = self._smoothed_ms.get(node, took_ms)
                self._smoothed_ms[node] = before_ms + WEIGHT * (took_ms - before_ms)

    def echoes(self, now_ns: int) -> tuple[Echo, ...]:
        """What the next heartbeat tells back."""
        return tuple(Echo(node, sent_ns, now_ns - at_ns) for node, (sent_ns, at_ns) in sorted(self._heard.items()))

    def forget(self, node: NodeId) -> None:
        """The link to it has ended: what was measured before says nothing of the next one."""
        self._heard.pop(node, None)
        self._smoothed_ms.pop(node, None)

    def latency_ms(self) -> float:
        """The median of the round trips to all others that are heard, 0 without any.

        The median, so that one node far away makes nobody else look far.
        """
        return median(self._smoothed_ms.values()) if self._smoothed_ms else 0.0
