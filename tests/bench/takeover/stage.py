"""What every contender is measured on: three nodes and a client's machine, and who is heard on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from kagemusha.demo.nodes import Directory, Machine, Machines, clear_crashed_runs, new_run_id
from tests.bench.takeover.tap import Tap
from tests.partitions.judge import Sign, overlaps, turns

NODES: Final = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Load:
    """What redis holds, how many connections there are of each kind, and what they write together, per second."""

    memory_mib: int = 64
    per_second: int = 2000
    idle: int = 20
    busy: int = 20
    anew: int = 5


@asynccontextmanager
async def machines() -> AsyncIterator[Machines]:
    """The machines; in the end nothing is left of them but, after an error, the logs."""
    clear_crashed_runs()
    directory = Directory(new_run_id())
    keep = True
    try:
        found = Machines(directory, NODES)
        try:
            yield found
            keep = False
        finally:
            found.close()
    finally:
        directory.close(keep=keep)


class Witnesses:
    """All taps, on every machine with clients: together they know who served when."""

    def __init__(self, nodes: Mapping[str, Machine], clients: list[Machine]) -> None:
        self._nodes = nodes
        self._taps = [Tap(one) for one in clients]
        self._names: dict[str, str] = {}

    def listen(self) -> None:
        """From now on."""
        self._names = {one.hardware_address: name for name, one in self._nodes.items()}
        for tap in self._taps:
            tap.listen()

    def overlaps(self, primaries: Sequence[str]) -> list[str]:
        """Who served beside another since `listen`, in words. primaries: who was made the primary, one after another,
        beginning with who was it at `listen`."""
        signs: list[Sign] = []
        for tap in self._taps:
            signs += tap.heard(self._names)
        return overlaps(turns(signs), primaries)

    def close(self) -> None:
        """Close the taps."""
        for tap in self._taps:
            tap.close()
