"""A whole cluster whose nodes have the freezer of cgroup v1 alone, with programs that are traced all the time.

Under v1 a stop that a tracer asks for, and SIGKILL, wait for the thaw; under v2 they do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from cluster.fencing.cgroup import CgroupError, ProgramCgroup
from tests.cluster.trio import DEADLINE_S, NAMES, Trio, is_text, say, trio

V1 = Path("/sys/fs/cgroup/freezer")
pytestmark = [pytest.mark.nodes, pytest.mark.skipif(not (V1 / "cgroup.procs").exists(), reason="no freezer of v1 here")]


def only_v1(cluster: Trio) -> None:
    """Take the hierarchy of v2 away from all nodes, before their daemons start."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for node in cluster.machines.nodes.values():
        for line in lines:
            if line[2] == "cgroup2":
                subprocess.run(node.command("umount", line[1]), check=True)


def cgroup_of(cluster: Trio, node: str) -> ProgramCgroup:
    """Where redis is kept on a node."""
    name = f"kgm-{cluster.directory.run_id.replace('_', '-')}-{node}"
    return ProgramCgroup(V1 / "kagemusha" / name / "redis")


async def until_frozen(cluster: Trio, node: str) -> None:
    """Wait until the kernel says so."""
    async with asyncio.timeout(DEADLINE_S):
        while not cgroup_of(cluster, node).is_frozen():
            await asyncio.sleep(0.005)


async def close(cluster: Trio) -> None:
    """End the nodes, and remove what they leave on this machine.

    A watchdog that is the last to die freezes its program, which then can't die of any signal before it is thawed.
    """
    closing = asyncio.create_task(asyncio.to_thread(cluster.machines.close))
    while not closing.done():
        for node in NAMES:
            with contextlib.suppress(CgroupError):
                cgroup_of(cluster, node).thaw()
        await asyncio.wait([closing], timeout=0.05)
    await closing
    for node in NAMES:
        directory = cgroup_of(cluster, node).directory
        for one in (directory, directory.parent):
            ProgramCgroup(one).remove()


async def test_fences_and_takeovers_with_the_freezer_of_v1() -> None:
    async with trio(furnish=only_v1) as cluster:
        try:
            await story(cluster)
        finally:
            await close(cluster)


async def story(cluster: Trio) -> None:
    """A kill, a daemon that hangs, its return, and a switchover back."""
    connection = cluster.connect()
    assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
    assert cluster.pid_of_redis("a") in cgroup_of(cluster, "a").processes()
    os.kill(cluster.pid_of_redis("a"), signal.SIGKILL)
    assert is_text(say(connection, "GET", "colour"), "vermilion")
    connection.close()
    view = await cluster.served()
    primary = view["programs"]["redis"]["primary"]
    assert primary != "a"

    # Its daemon hangs: the watchdog alone stops the program, which its agent has seized.
    pid = cluster.pid_of_redis(primary)
    hanging = cluster.daemons.pop(primary)
    assert hanging.process is not None
    hanging.process.send_signal(signal.SIGSTOP)
    await until_frozen(cluster, primary)
    await cluster.until(lambda view: view["programs"]["redis"]["primary"] != primary, "another node serves")
    connection = cluster.connect()
    assert is_text(say(connection, "GET", "colour"), "vermilion")

    # What was replaced is ended, frozen as it is, and begins anew as a mirror.
    hanging.process.send_signal(signal.SIGCONT)
    cluster.daemons[primary] = hanging
    view = await cluster.served()
    await cluster.ended(pid)
    answer = await cluster.daemons[view["leader"]].ask(do="switch", id="back", instance=f"redis@{primary}")
    assert answer["ok"], answer
    assert is_text(say(connection, "GET", "colour"), "vermilion")
    connection.close()
    await cluster.served()
