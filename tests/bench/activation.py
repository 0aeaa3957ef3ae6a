"""How long a mirror takes to become the program, by how much memory the program has.

    python -m tests.bench.activation [--sizes 100,1024] [--rounds N]

Each size is a run of its own of the same story, with as many kills of the program and one planned switchover. What is
summed are the mirror's own steps, from the order to activate until its threads run; neither the last checkpoint of the
dying program nor the client's network. Memory was applied long before: the time must not grow with it. The last line
is one JSON object; `ratio` is the largest size's median by the smallest's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys

from kagemusha.demo.display import Display
from kagemusha.demo.nodes import clear_crashed_runs
from kagemusha.demo.report import Report, Takeover
from kagemusha.demo.story import Story
from tests.bench.takeover.restart import play

_BEFORE = 2
"""The first two steps of a time line are the old primary's and the controller's."""


def activation_ms(takeover: Takeover) -> float:
    """The mirror's own steps of one takeover, in ms."""
    return sum(step.took_ms for step in takeover.steps[_BEFORE:] if not step.name.startswith("client:"))


def _row(report: Report) -> dict[str, float]:
    activations = [activation_ms(one) for one in report.takeovers if one.kind != "node_killed"]
    return {
        "memory_mib": report.memory_mib,
        "takeovers": len(activations),
        "activation_ms_p50": round(statistics.median(activations), 2),
        "activation_ms_max": round(max(activations), 2),
        "gap_ms_p50": round(report.gap_ms("process_killed") or 0.0, 1),
    }


def main() -> None:
    """Play the story once for each size, and compare."""
    parser = argparse.ArgumentParser(description="The time of an activation by the size of the program.")
    parser.add_argument("--sizes", default="100,1024", help="MiB that redis is filled with, smallest first")
    parser.add_argument("--rounds", type=int, default=9, help="how often the program is killed at each size")
    options = parser.parse_args()
    clear_crashed_runs()
    sizes = [int(size) for size in options.sizes.split(",")]
    stories = [Story(memory_mib=size, rounds=options.rounds) for size in sizes]
    rows = [_row(asyncio.run(play(story, Display(sys.stderr)))) for story in stories]
    for row in rows:
        sys.stdout.write(", ".join(f"{name} {value:,}" for name, value in row.items()) + "\n")
    ratio = rows[-1]["activation_ms_p50"] / rows[0]["activation_ms_p50"]
    sys.stdout.write(json.dumps({"sizes": rows, "ratio": round(ratio, 3)}) + "\n")


if __name__ == "__main__":
    main()
