"""`python -m tests.bench.takeover`: what clients see of every kind of takeover, one JSON object a line.

First kagemusha, then its peers, each on the same machines and with the same clients. The exit status says whether all
that kagemusha must keep was kept; how long it took is in the lines alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, get_args

from kagemusha.demo.display import Display
from kagemusha.demo.errors import DemoError
from tests.bench.takeover import restart
from tests.bench.takeover.cluster import DRIVERS, ClusterBench, Driver
from tests.bench.takeover.kinds import PROMISES, Kind
from tests.bench.takeover.peer import PEER_KINDS, Peer
from tests.bench.takeover.row import One, row
from tests.bench.takeover.sentinel import Sentinel
from tests.bench.takeover.stage import Load, machines
from tests.bench.takeover.vrrp import KeepalivedAlone

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
KAGEMUSHA: Final = "kagemusha"
RESTART: Final = "restart"
PEERS: Final[dict[str, type[Peer]]] = {"sentinel": Sentinel, "keepalived": KeepalivedAlone}
SYSTEMS: Final = (KAGEMUSHA, *PEERS, RESTART)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured, and how. until_s: no run begins after that, by the monotonic clock."""

    display: Display
    load: Load
    driver: Driver
    runs: int
    kinds: Sequence[Kind]
    until_s: float

    async def repeat(self, run: Callable[[], Awaitable[One]]) -> list[One]:
        """As many runs as are wanted, and as there is time for."""
        ones: list[One] = []
        while len(ones) < self.runs and time.monotonic() < self.until_s:
            ones.append(await run())
        return ones


async def of_kagemusha(options: Options) -> AsyncIterator[Row]:
    """All kinds. Raises DemoError at the first thing that does not happen at all, as all of these do."""
    for health in (False, True):
        kinds = [kind for kind in options.kinds if (kind == "program_hung") is health]
        if not kinds:
            continue
        async with machines() as there:
            bench = ClusterBench(options.display, there, options.load, options.driver, health=health)
            try:
                await bench.open()
                for kind in kinds:
                    if ones := await options.repeat(partial(bench.run, kind)):
                        yield row(KAGEMUSHA, kind, ones, PROMISES[kind])
            finally:
                there.close()
                await bench.close()


async def of_peer(options: Options, make: type[Peer]) -> AsyncIterator[Row]:
    """The kinds that a peer can be compared in."""
    kinds = [kind for kind in PEER_KINDS if kind in options.kinds]
    if not kinds:
        return
    async with machines() as there:
        peer = make(options.display, there, options.load)
        try:
            await peer.open()
            for kind in kinds:
                if ones := await options.repeat(partial(peer.run, kind)):
                    yield row(peer.name, kind, ones, None)
        finally:
            there.close()
            await peer.close()


async def of_restart(options: Options) -> AsyncIterator[Row]:
    """A restart from nothing; the machine dies once only."""
    for kind, ones in (await restart.restarts(options.display, options.load, options.runs)).items():
        if kind in options.kinds:
            yield row(restart.NAME, kind, ones, None)


def _rows(system: str, options: Options) -> AsyncIterator[Row]:
    if system == KAGEMUSHA:
        return of_kagemusha(options)
    return of_restart(options) if system == RESTART else of_peer(options, PEERS[system])


async def _measure(systems: Sequence[str], options: Options) -> bool:
    task = asyncio.current_task()
    assert task is not None
    # Whoever ends it early must not leave machines behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    kept = True
    for system in systems:
        async for one in _rows(system, options):
            sys.stdout.write(json.dumps(one) + "\n")
            sys.stdout.flush()
            kept = kept and (one["system"] != KAGEMUSHA or one["kept"])
    return kept


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-takeover ARGS=...", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each kind (default: 5)")
    parser.add_argument("--kinds", type=_some(KINDS), default=KINDS, help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--systems", type=_some(SYSTEMS), default=SYSTEMS, help=f"of {', '.join(SYSTEMS)} (all)")
    parser.add_argument("--driver", choices=DRIVERS, default="keepalived", help="of kagemusha (default: keepalived)")
    parser.add_argument("--memory-mib", type=int, default=Load().memory_mib, help="that redis holds")
    parser.add_argument("--writes-per-second", type=int, default=Load().per_second, help="of all clients together")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so long")
    parser.add_argument("--json", action="store_true", help="say nothing but the lines")
    return parser.parse_args()


def _some(of: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        wanted = text.split(",")
        if unknown := [name for name in wanted if name not in of]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(of)}")
        return [name for name in of if name in wanted]

    return parse


def main() -> int:
    """Measure what is asked for."""
    said = _arguments()
    load = Load(said.memory_mib, said.writes_per_second)
    with open(os.devnull, "w") as nowhere:
        display = Display(nowhere if said.json else sys.stderr)
        until_s = time.monotonic() + said.minutes * 60
        options = Options(display, load, said.driver, said.runs, said.kinds, until_s)
        try:
            return 0 if asyncio.run(_measure(said.systems, options)) else 1
        except (asyncio.CancelledError, KeyboardInterrupt):
            sys.stderr.write("ended early; what was measured until then stands above\n")
            return 130
        except DemoError as error:
            sys.stderr.write(f"{error.what}\nhint: {error.hint}\n")
            return 1


if __name__ == "__main__":
    sys.exit(main())
