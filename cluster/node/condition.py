"""Whether this node is fit to have a program served on it: what only it knows of itself. Pure.

Nothing of this keeps a program from being served; where two mirrors hold as much, the one on the better node is chosen.
"""

from __future__ import annotations

from typing import Final

LATE_S: Final = 10.0
"""For so long a node that was late is not trusted to be punctual."""
MEMORY_SHARE_MIN: Final = 0.05


class Condition:
    """late_s: how late a heartbeat may be, in seconds: of what is later, a lease or two would have ended."""

    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._until_s = float("-inf")
        self._late_ms = 0

    def beat(self, now_s: float, late_s: float) -> None:
        """A heartbeat is sent, and so much after its time (CLOCK_BOOTTIME, seconds)."""
        if late_s < self._late_s:
            return
        if now_s >= self._until_s:
            self._late_ms = 0
        self._until_s = now_s + LATE_S
        self._late_ms = max(self._late_ms, round(late_s * 1000))

    def trouble(self, now_s: float, *, watched: bool, free_bytes: int, total_bytes: int) -> str:
        """What speaks against this node now, the worst first, "" for nothing. watched: there is a watchdog."""
        if not watched:
            return "it has no watchdog, and gets no lease without one"
        if free_bytes < total_bytes * MEMORY_SHARE_MIN:
            return f"it has {free_bytes >> 20} MiB of memory left"
        if now_s < self._until_s:
            return f"it was {self._late_ms} ms late with a heartbeat of late"
        return ""
