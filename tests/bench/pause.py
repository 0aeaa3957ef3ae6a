"""How long checkpoints stop a redis-server under load, and what they cost, beside redis's own replication.

    python -m tests.bench.pause [--memory-mib N] [--interval-ms N] [--seconds N]

The same machines, the same clients, the same redis: first alone, then with a replica of redis's own on the other node
(the peer: commands travel, no process does), then mirrored by kagemusha. The last line is one JSON object; compare
ratios, not absolute figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys

from kagemusha.demo.display import Display
from kagemusha.demo.nodes import ADDRESS, Directory, Machines, Node, clear_crashed_runs, new_run_id
from kagemusha.demo.pair.scenario import PairScenario
from kagemusha.demo.story import FIRST_NODE, PORT, PROGRAM, Story

REPLICA_S_MAX = 60.0


class Measurement(PairScenario):
    """The first scene of the demo of two nodes, with the peer in the middle; no takeovers."""

    def __init__(self, story: Story, display: Display, machines: Machines) -> None:
        super().__init__(story, display, machines)
        self.replicated_per_second = 0.0

    async def measure(self) -> dict[str, object]:
        """Alone, replicated, mirrored."""
        self._prepare_nodes()
        await self._start()
        await self._writes_per_second(self._story.warm_up_s)
        await self._replicate(self._machines.other(FIRST_NODE))
        await self._measure()
        report = self.report
        pauses = {name: max(getattr(one, name) for one in self._pauses) for name in ("p50", "p99", "max")}
        return {
            "interval_ms": self._story.interval_ms,
            "memory_mib": report.memory_mib,
            "writes_per_second_alone": round(report.unmirrored_per_second),
            "ratio_replicated": round(self.replicated_per_second / report.unmirrored_per_second, 3),
            "ratio_mirrored": round(report.throughput_ratio, 3),
            "pause_us": {name: round(value) for name, value in pauses.items()},
            "load_ratio": round(report.load_per_second / report.unmirrored_per_second, 3),
        }

    async def _replicate(self, node: Node) -> None:
        """Measure while a replica on `node` follows the redis at the address; the replica is gone afterwards."""
        executable = shutil.which(PROGRAM) or PROGRAM
        arguments = ["--port", str(PORT + 1), "--save", "", "--replicaof", ADDRESS, str(PORT)]
        directory = ["--dir", str(self._machines.directory.data)]
        with self._display.task("redis with a replica of its own") as task:
            replica = await asyncio.create_subprocess_exec(
                *node.command(executable, *arguments, *directory),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout(REPLICA_S_MAX):
                    assert replica.stdout is not None
                    while line := await replica.stdout.readline():
                        if b"MASTER <-> REPLICA sync: Finished with success" in line:
                            break
                await self._writes_per_second(self._story.warm_up_s)
                self.replicated_per_second = await self._writes_per_second(self._story.measure_s)
                task.result = f"{self.replicated_per_second:,.0f} writes/s"
            finally:
                replica.kill()
                await replica.wait()


async def _play(story: Story) -> dict[str, object]:
    directory = Directory(new_run_id())
    try:
        machines = Machines(directory)
        measurement = Measurement(story, Display(sys.stderr), machines)
        try:
            return await measurement.measure()
        finally:
            machines.close()
            await measurement.close()
    finally:
        directory.close(keep=False)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-pause ARGS=...", description=__doc__)
    parser.add_argument("--memory-mib", type=int, default=100)
    parser.add_argument("--interval-ms", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    clear_crashed_runs()
    story = Story(memory_mib=options.memory_mib, interval_ms=options.interval_ms, measure_s=options.seconds)
    sys.stdout.write(json.dumps(asyncio.run(_play(story))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
