"""A takeover beside its peer: the same redis, clients and kills with kagemusha, and with a restart from nothing.

    python -m tests.bench.takeover [--memory-mib N] [--rounds N]

The peer is what a supervisor does that starts the program on the other node as soon as it has died, and moves the
address: no mirror, no state. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from kagemusha.demo.display import Display
from kagemusha.demo.nodes import Directory, Machines, clear_crashed_runs, new_run_id
from kagemusha.demo.pair import agents
from kagemusha.demo.pair.scenario import PairScenario
from kagemusha.demo.report import Report
from kagemusha.demo.story import Story

CONTENDERS = {
    "kagemusha": agents.COMMAND,
    "restart from nothing": ("-m", "tests.kagemusha.demo.pair.plain_agent"),
}


async def play(story: Story) -> Report:
    """The whole story on machines of its own, shown on stderr; nothing is left of them. Raises as the scenario does."""
    directory = Directory(new_run_id())
    try:
        machines = Machines(directory)
        scenario = PairScenario(story, Display(sys.stderr), machines)
        try:
            return await scenario.play()
        finally:
            machines.close()
            await scenario.close()
    finally:
        directory.close(keep=False)


def _row(report: Report) -> dict[str, float]:
    """What the kills of the program came to; gaps in ms."""
    killed = [one for one in report.takeovers if one.kind == "process_killed"]
    return {
        "gap_ms_p50": round(report.gap_ms("process_killed") or 0.0, 1),
        "gap_ms_max": round(max(one.gap_ms for one in killed), 1),
        "writes_acknowledged": sum(one.writes_acknowledged for one in killed),
        "writes_lost": sum(one.writes_lost for one in killed),
        "connections": sum(one.connections_busy + one.connections_idle for one in killed),
        "connections_survived": sum(one.connections_busy_survived + one.connections_idle_survived for one in killed),
        "throughput_ratio": round(report.throughput_ratio, 3),
    }


def main() -> None:
    """Play the story once per contender, and print what it came to."""
    parser = argparse.ArgumentParser(description="A takeover beside a restart from nothing.")
    parser.add_argument("--memory-mib", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    clear_crashed_runs()
    rows = {}
    for name, command in CONTENDERS.items():
        agents.COMMAND = command
        rows[name] = _row(asyncio.run(play(Story(memory_mib=options.memory_mib, rounds=options.rounds))))
    for name, row in rows.items():
        sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value:,}" for key, value in row.items()) + "\n")
    sys.stdout.write(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
