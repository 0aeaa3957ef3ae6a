"""How busy this node is, measured at most once a second (psutil), how near the others, and what speaks against it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psutil

from cluster.node.condition import Condition
from cluster.node.messages import Load
from cluster.node.round_trips import RoundTrips
from cluster.registry.values import NodeId
from transport.clock import boottime_s

INTERVAL_S: Final = 1.0


class LoadMeter:
    """Gives the newest measurement; the first is of the moment in which it was made. late_s: see `Condition`.
    is_watched: whether there is a watchdog now."""

    def __init__(self, own: NodeId, late_s: float, is_watched: Callable[[], bool]) -> None:
        self.round_trips = RoundTrips(own)
        self.condition = Condition(late_s)
        self._is_watched = is_watched
        psutil.cpu_percent()
        self._measured_s = time.monotonic()
        self._cpu, self._memory = 0.0, psutil.virtual_memory()

    def read(self) -> Load:
        """The load over the last second or a little more, and the rest as it is now."""
        now_s = time.monotonic()
        if now_s - self._measured_s >= INTERVAL_S:
            self._measured_s = now_s
            self._cpu, self._memory = psutil.cpu_percent() / 100, psutil.virtual_memory()
        free_bytes, total_bytes = int(self._memory.available), int(self._memory.total)
        trouble = self.condition.trouble(
            boottime_s(),
            watched=self._is_watched(),
            free_bytes=free_bytes,
            total_bytes=total_bytes,
        )
        return Load(self._cpu, free_bytes, self.round_trips.latency_ms(), trouble)
