"""A scout for tests: they wait for each of its answers, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from agent.kernel.sock_diag import Sockets
from agent.memory.sighting import Sighting
from agent.scout.scout import Question, Scout

_S_MAX: Final = 30.0


class PatientScout(Scout):
    """Asks once it is ready, and waits for the answer. answers: how many there were about memory; told: about how many
    connections."""

    answers = told = 0

    def wait_until_ready(self) -> None:
        """Its process follows what it was told to."""
        _wait(lambda: self.is_ready)

    def ask(self, question: Question) -> None:
        """See `Scout.ask`."""
        self.wait_until_ready()
        _wait(lambda: self.is_idle)
        super().ask(question)
        _wait(lambda: self.is_idle)

    def sighting(self) -> Sighting | None:
        """See `Scout.sighting`."""
        sighting = super().sighting()
        self.answers += sighting is not None
        return sighting

    def rows(self) -> Sockets | None:
        """See `Scout.rows`."""
        rows = super().rows()
        self.told += len(rows) if rows is not None else 0
        return rows


def _wait(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + _S_MAX
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.001)
