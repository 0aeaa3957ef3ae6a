"""A scout for tests: they wait for each of its answers, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from agent.memory.page_ranges import Ranges
from agent.memory.scout import Scout, Sighting

_S_MAX: Final = 30.0


class PatientScout(Scout):
    """Asks once it is ready, and waits for the answer. answers: how many there were."""

    answers = 0

    def wait_until_ready(self) -> None:
        """Its process follows what it was told to."""
        _wait(lambda: self.is_ready)

    def ask(self, runs: Ranges, private: Ranges) -> None:
        """See `Scout.ask`."""
        self.wait_until_ready()
        super().ask(runs, private)
        _wait(lambda: self.is_idle)

    def answer(self) -> Sighting | None:
        """See `Scout.answer`."""
        sighting = super().answer()
        self.answers += sighting is not None
        return sighting


def _wait(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + _S_MAX
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.001)
