"""What agreement costs: three members as processes over the loopback, with mutual TLS and a synced journal.

`python -m tests.bench.raft [ELECTIONS]`: latency of single commands, throughput, and the time from the SIGKILL of the
leader's process to a lease, and to the first command that is agreed, on the others.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.cluster.raft.group import NODES
from tests.cluster.raft.test_processes import Processes, three_processes
from transport.clock import boottime_s


def _say(name: str, values_s: list[float]) -> None:
    values = sorted(value * 1e3 for value in values_s)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    sys.stdout.write(
        f"{name}: n {len(values)}, p50 {statistics.median(values):.2f} ms, p99 {p99:.2f}, max {values[-1]:.2f}\n"
    )
    sys.stdout.flush()


async def _latency(group: Processes, node: str, name: str) -> None:
    times: list[float] = []
    for number in range(500):
        begun = time.perf_counter()
        await group.running[node].propose(f"{name}-{number}")
        times.append(time.perf_counter() - begun)
    _say(f"commit, asked {name}", times)


async def _idle(group: Processes) -> None:
    processes = [psutil.Process(process.process.pid) for process in group.running.values()]
    before = [sum(process.cpu_times()[:2]) for process in processes]
    begun = time.perf_counter()
    await asyncio.sleep(5)
    elapsed = time.perf_counter() - begun
    shares = [
        100 * (sum(process.cpu_times()[:2]) - old) / elapsed for process, old in zip(processes, before, strict=True)
    ]
    sys.stdout.write("idle: " + ", ".join(f"{share:.1f}" for share in sorted(shares)) + " % of a processor\n")


async def _elections(group: Processes, count: int) -> None:
    leases: list[float] = []
    commits: list[float] = []
    for number in range(count):
        old = await group.leader()
        await group.states()
        others = [node for node in NODES if node != old]
        killed_s = boottime_s()
        group.running[old].process.kill()
        proposal = asyncio.create_task(group.running[others[0]].propose(f"election-{number}"))
        new = await group.leader(*others)
        leases.append(group.running[new].leadership["at_s"] - killed_s)
        commits.append((await proposal)["at_s"] - killed_s)
        await group.running[old].kill()
        await group.start(old)
        await group.running[old].propose(f"back-{number}")
    _say("leader killed to first commit", commits)
    _say("leader killed to a lease", leases)


async def _main(elections: int) -> None:
    with tempfile.TemporaryDirectory(prefix="kgm-raft-") as directory:
        async with three_processes(Path(directory)) as group:
            leader = await group.leader()
            await _latency(group, leader, "the leader")
            await _latency(group, next(node for node in NODES if node != leader), "a follower")
            begun = time.perf_counter()
            await asyncio.gather(*(group.running[leader].propose(f"many-{number}") for number in range(5000)))
            sys.stdout.write(f"throughput: {5000 / (time.perf_counter() - begun):.0f} commands/s\n")
            await _idle(group)
            await _elections(group, elections)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
