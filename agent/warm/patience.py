"""How long to wait before a mirror's program that does not stay is started again. Pure."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
SOUND_S: Final = 60.0
"""Who has lived for so long begins with FIRST_S again."""


class Patience:
    """Of one instance."""

    def __init__(self) -> None:
        self._wait_s = FIRST_S
        self._last_s = float("-inf")

    def next_s(self, now_s: float) -> float:
        """It has ended, or could not be started: how long to wait."""
        if now_s - self._last_s > SOUND_S + self._wait_s:
            self._wait_s = FIRST_S
        wait_s, self._wait_s, self._last_s = self._wait_s, min(2 * self._wait_s, LONGEST_S), now_s
        return wait_s
