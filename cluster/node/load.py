"""How busy this node is, measured at most once a second (psutil)."""

from __future__ import annotations

import time
from typing import Final

import psutil

from cluster.node.messages import Load

INTERVAL_S: Final = 1.0


class LoadMeter:
    """Gives the newest measurement; the first is of the moment in which it was made."""

    def __init__(self) -> None:
        psutil.cpu_percent()
        self._measured_s = time.monotonic()
        self._load = Load(0.0, int(psutil.virtual_memory().available))

    def read(self) -> Load:
        """The load over the last second or a little more."""
        now_s = time.monotonic()
        if now_s - self._measured_s >= INTERVAL_S:
            self._measured_s = now_s
            self._load = Load(psutil.cpu_percent() / 100, int(psutil.virtual_memory().available))
        return self._load
