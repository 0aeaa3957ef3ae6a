"""`python -m tests.false_alarms`: every CPU is saturated, nothing else happens; the last line is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from tests.cluster.trio import Trio, trio
from tests.false_alarms.load import LOADS, Load
from tests.false_alarms.quiet import HEALTH, Quiet, stays_quiet


def main() -> int:
    """Wait so long; the exit status says whether there was no alarm."""
    parser = argparse.ArgumentParser(prog="make false-alarms ARGS=...", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of all loads together (default: 5)")
    parser.add_argument("--only", choices=LOADS, help="only this load")
    parser.add_argument(
        "--journal-in-memory", action="store_true", help="no node waits for a disk: shows what such a wait costs"
    )
    options = parser.parse_args()
    loads: list[Load] = [load for load in LOADS if options.only in (None, load)]
    found = asyncio.run(_run(loads, options.minutes * 60 / len(loads), options.journal_in_memory))
    summary = {
        "loads": [asdict(one) for one in found],
        **{name: sum(getattr(one, name) for one in found) for name in ("fences", "elections", "promotions", "unwell")},
        "seconds": sum(one.seconds for one in found),
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0 if len(found) == len(loads) and all(one.kept for one in found) else 1


def _without_disk(cluster: Trio) -> None:
    for node in cluster.machines.nodes.values():
        settings = node.own / "node.toml"
        text = settings.read_text()
        # A node's /tmp is a file system in memory of its own.
        settings.write_text(text.replace(f'data = "{cluster.directory.node}/data"', 'data = "/tmp/data"'))


async def _run(loads: list[Load], seconds: float, in_memory: bool) -> list[Quiet]:
    found: list[Quiet] = []
    for load in loads:
        # A program that gets no CPU does not serve, and a health check says so rightly.
        health = "" if load == "realtime" else HEALTH
        async with trio(health, furnish=_without_disk if in_memory else lambda _: None) as cluster:
            found.append(await stays_quiet(cluster, load, seconds))
        sys.stdout.write(f"{_line(found[-1])}\n")
        sys.stdout.flush()
    return found


def _line(one: Quiet) -> str:
    return (
        f"{one.load:8} for {one.seconds:g} s: {one.fences} fences, {one.elections} elections, {one.promotions} "
        f"promotions, {one.unwell} failed health checks; {one.answers} answers, {one.unanswered} missing, "
        f"the slowest after {one.answer_ms_max:g} ms; {one.agreed} commands agreed, the slowest after "
        f"{one.agree_ms_max:g} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
