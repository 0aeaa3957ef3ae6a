"""`python -m tests.restarts`: daemons and agents are restarted under load; the last line is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from tests.cluster.trio import trio
from tests.restarts.restart import KINDS, Kind, Restart, Stage
from tests.restarts.written_redis import Clients


def main() -> int:
    """Restart each so often; the exit status says whether everything was kept each time."""
    parser = argparse.ArgumentParser(prog="make restarts ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each kind (default: 10)")
    parser.add_argument("--only", choices=KINDS, help="only this kind")
    parser.add_argument("--memory-mib", type=int, default=64, help="that redis holds (default: 64)")
    parser.add_argument("--writes-per-second", type=int, default=2000, help="of all clients (default: 2000)")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.only in (None, kind)]
    clients = Clients(writes_per_second=options.writes_per_second)
    restarts = asyncio.run(_run(kinds * options.rounds, clients, options.memory_mib))
    kept = sum(one.kept for one in restarts)
    rows = [{**asdict(one), "kept": one.kept} for one in restarts]
    sys.stdout.write(json.dumps({"restarts": rows, "kept": kept, "of": len(rows)}) + "\n")
    return 0 if kept == len(rows) else 1


async def _run(kinds: list[Kind], clients: Clients, memory_mib: int) -> list[Restart]:
    restarts: list[Restart] = []
    async with trio() as cluster:
        stage = Stage(cluster, clients)
        try:
            await stage.open(memory_mib)
            for number, kind in enumerate(kinds, start=1):
                one = await stage.restart(kind)
                restarts.append(one)
                sys.stdout.write(f"{number:3} {_line(one)}\n")
                sys.stdout.flush()
        finally:
            await stage.close()
    return restarts


def _line(one: Restart) -> str:
    kept = "kept" if one.kept else "NOT KEPT"
    return (
        f"{one.kind:13} of {one.node}: {kept}; {one.survived} of {one.connections} connections, "
        f"{one.writes_lost} of {one.writes_acknowledged} writes lost, gap {one.gap_ms:g} ms, "
        f"mirrored again after {one.mirrored_s:.2f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
