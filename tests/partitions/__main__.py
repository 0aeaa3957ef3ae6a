"""`python -m tests.partitions`: networks are divided under load; the last line is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.cluster.trio import NAMES
from tests.partitions.faults import KINDS, Kind, fault
from tests.partitions.partition import Partition, stage

_SHOWN = 3
"""Overlaps of one partition that are put in words; all are counted."""


def main() -> int:
    """Divide it so often; the exit status says whether nobody ever served beside another."""
    parser = argparse.ArgumentParser(prog="make partitions ARGS=...", description=__doc__)
    parser.add_argument("--runs", type=int, default=len(KINDS), help=f"how many (default: {len(KINDS)}, one of each)")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance (default: 0)")
    parser.add_argument("--only", choices=KINDS, help="only this kind")
    parser.add_argument("--driver", choices=("keepalived", "address"), default="keepalived")
    parser.add_argument(
        "--unguarded", action="store_true", help="nobody stops the cut-off primary: the checker has to find two"
    )
    options = parser.parse_args()
    kinds: list[Kind] = [kind for kind in KINDS if options.only in (None, kind)]
    found = asyncio.run(_run(options, [kinds[number % len(kinds)] for number in range(options.runs)]))
    sys.stdout.write(json.dumps(_summary(found, options.seed)) + "\n")
    return 0 if all(one.kept for one in found) and len(found) == options.runs else 1


async def _run(options: argparse.Namespace, kinds: Sequence[Kind]) -> list[Partition]:
    found: list[Partition] = []
    dice = random.Random(options.seed)
    async with stage(options.driver) as place:
        for number, kind in enumerate(kinds, start=1):
            primary, leader = await place.settled()
            one = await place.suffer(fault(kind, primary, leader, NAMES, dice), guarded=not options.unguarded)
            found.append(one)
            sys.stdout.write(f"{number:3} {_line(one)}\n")
            sys.stdout.flush()
    return found


def _line(one: Partition) -> str:
    moved = f"{one.moved} serves now" if one.moved else "serves where it did"
    silence = f", silent for {min(one.handovers_ms):.0f} ms between two" if one.handovers_ms else ""
    wrong = (*one.overlaps[:_SHOWN], *one.problems)
    more = f", and {len(one.overlaps) - _SHOWN} times more" if len(one.overlaps) > _SHOWN else ""
    kept = "" if one.kept else f"  NOT KEPT: {'; '.join(wrong)}{more}"
    return (
        f"{one.kind:11} of {one.node}, {one.cut_s:.2f} s: {moved}, {one.promotions} promotions{silence}; gap "
        f"{one.gap_ms:.0f} ms, {one.lost} lost, in sync {one.whole_s:.2f} s later{kept}"
    )


def _summary(found: Sequence[Partition], seed: int) -> dict[str, Any]:
    silences = sorted(one for partition in found for one in partition.handovers_ms)
    return {
        "seed": seed,
        "partitions": [{**asdict(one), "overlaps": one.overlaps[:_SHOWN], "kept": one.kept} for one in found],
        "kept": sum(one.kept for one in found),
        "of": len(found),
        "overlaps": sum(len(one.overlaps) for one in found),
        "handovers": len(silences),
        "silence_ms_min": silences[0] if silences else None,
        "silence_ms_p50": silences[len(silences) // 2] if silences else None,
        "gap_ms_max": max((one.gap_ms for one in found), default=None),
        "whole_s_max": max((one.whole_s for one in found), default=None),
    }


if __name__ == "__main__":
    sys.exit(main())
