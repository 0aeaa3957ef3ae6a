"""`python -m tests.agent_kills`: agents are killed at random points of their work; the last line is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.agent_kills.kill import Kill, Stage
from tests.agent_kills.moment import MOMENTS, Moment
from tests.cluster.trio import trio
from tests.restarts.written_redis import Clients


def main() -> int:
    """Kill so many; the exit status says whether the program was kept whole each time."""
    parser = argparse.ArgumentParser(prog="make agent-kills ARGS=...", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance (default: 0)")
    parser.add_argument("--only", choices=MOMENTS, help="only at this moment")
    parser.add_argument("--memory-mib", type=int, default=16, help="that redis holds (default: 16)")
    parser.add_argument("--anew", type=int, default=20, help="clients that connect anew each time (default: 20)")
    options = parser.parse_args()
    kills = asyncio.run(_run(options))
    sys.stdout.write(json.dumps(_summary(kills, options.seed)) + "\n")
    return 0 if len(kills) == options.runs and all(one.kept for one in kills) else 1


async def _run(options: argparse.Namespace) -> list[Kill]:
    moments: list[Moment] = [moment for moment in MOMENTS if options.only in (None, moment)]
    dice = random.Random(options.seed)
    kills: list[Kill] = []
    async with trio() as cluster:
        stage = Stage(cluster, Clients(idle=10, busy=10, anew=options.anew, writes_per_second=1500))
        try:
            await stage.open(options.memory_mib)
            for number in range(options.runs):
                one = await stage.kill(moments[number % len(moments)], dice)
                kills.append(one)
                sys.stdout.write(f"{number + 1:3} {_line(one)}\n")
                sys.stdout.flush()
        finally:
            await stage.close()
    return kills


def _line(one: Kill) -> str:
    end = "the program ran on" if one.ran_on else "the program died with it, a mirror goes on"
    found = f", {one.found} in repair mode" if one.found else ""
    kept = "" if one.kept else f"  NOT KEPT {'; '.join(one.problems)}"
    return (
        f"{one.moment:7} + {one.after_ms:7.3f} ms: {end}; {one.survived} of {one.connections} connections{found}, "
        f"{one.writes_lost} of {one.writes_acknowledged} writes lost, gap {one.gap_ms:g} ms, "
        f"mirrored again after {one.mirrored_s:.2f} s{kept}"
    )


def _summary(kills: Sequence[Kill], seed: int) -> dict[str, Any]:
    gaps = sorted(one.gap_ms for one in kills)
    return {
        "seed": seed,
        "kills": [{**asdict(one), "kept": one.kept} for one in kills],
        "kept": sum(one.kept for one in kills),
        "of": len(kills),
        "corrupted": sum(bool(one.problems) for one in kills),
        "died_with_agent": sum(not one.ran_on for one in kills),
        "found_in_repair_mode": sum(one.found for one in kills),
        "writes_lost_though_it_ran_on": sum(one.writes_lost for one in kills if one.ran_on),
        "connections_lost_though_it_ran_on": sum(one.connections - one.survived for one in kills if one.ran_on),
        "gap_ms_p50": gaps[len(gaps) // 2] if gaps else None,
        "gap_ms_max": gaps[-1] if gaps else None,
        "mirrored_s_max": max((one.mirrored_s for one in kills), default=None),
    }


if __name__ == "__main__":
    sys.exit(main())
