"""How long the program stood still for its checkpoints."""

from __future__ import annotations

import numpy as np

_KEPT = 16_384


class Pauses:
    """The last 16,384 pauses in microseconds, and the longest of all."""

    def __init__(self) -> None:
        self._ring = np.zeros(_KEPT)
        self.count = 0
        self.max_us = 0.0

    def add(self, pause_us: float) -> None:
        """Note one pause."""
        self._ring[self.count % _KEPT] = pause_us
        self.count += 1
        self.max_us = max(self.max_us, pause_us)

    def quantile_us(self, share: float) -> float:
        """The pause that `share` (0 to 1) of the kept ones do not exceed; 0.0 when there are none."""
        kept = self._ring[: min(self.count, _KEPT)]
        return float(np.quantile(kept, share, method="inverted_cdf")) if len(kept) else 0.0
