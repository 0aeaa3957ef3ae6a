"""Work on a node, as an operator does it, on three real nodes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

from kagemusha.exit_codes import ExitCode
from tests.cluster.operated import DESK, Operated
from tests.cluster.trio import DEADLINE_S, NAMES, is_text, say


async def balancer(cluster: Operated, path: str) -> dict[str, tuple[int, Any]]:
    """What a load balancer hears of each node: status and answer."""
    found = {}
    for name in NAMES:
        url = f"https://{cluster.endpoint(name)}{path}"
        process = await asyncio.create_subprocess_exec(
            *cluster.machines.nodes[DESK].command("curl", "-sk", "-w", "\n%{http_code}", url),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        body, _, status = out.decode().rpartition("\n")
        found[name] = (int(status), json.loads(body))
    return found


async def test_load_balancers(cluster: Operated) -> None:
    primary = (await cluster.mirrored())["primary"]
    found = await balancer(cluster, "/primary?program=redis")
    assert {name for name, (status, _) in found.items() if status == 200} == {primary}
    assert found[primary][1] == {"node": primary, "instances": [f"redis@{primary}"]}
    others = set(NAMES) - {primary}
    found = await balancer(cluster, "/replica?max_lag=600000")
    assert {name for name, (status, _) in found.items() if status == 200} == others
    found = await balancer(cluster, "/primary?program=web")
    assert {status for status, _ in found.values()} == {503}
    assert found[primary][1]["type"] == "urn:kagemusha:not-here"
    assert {status for status, _ in (await balancer(cluster, "/replica?max_lag=soon")).values()} == {422}
    assert {status for status, _ in (await balancer(cluster, "/replica?lag=1")).values()} == {422}
    assert {status for status, _ in (await balancer(cluster, "/liveness")).values()} == {200}


async def test_a_node_is_drained(cluster: Operated) -> None:
    old = (await cluster.mirrored())["primary"]
    code, _, err = await cluster.type("drain", old)
    assert code == 0, err
    assert f"redis@{old} let go" in err
    program = await cluster.mirrored()
    assert program["primary"] != old
    nodes = {one["node"]: one["drained"] for one in (await cluster.found("topology"))["nodes"]}
    assert [name for name, drained in nodes.items() if drained] == [old]

    new = program["primary"]
    moved = await cluster.found("switchover", f"redis@{new}")
    assert moved["new"] not in (f"redis@{old}", f"redis@{new}")
    await cluster.mirrored()
    assert (await cluster.type("undrain", old))[0] == 0
    assert not any(one["drained"] for one in (await cluster.found("topology"))["nodes"])


async def test_during_a_pause_a_person_decides(cluster: Operated) -> None:
    old = (await cluster.mirrored())["primary"]
    connection = cluster.connect()
    assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
    [paused] = [await cluster.found("pause", "redis", "--for", "10m")]
    assert paused["paused"]
    assert paused["paused_until"].endswith("Z")
    assert "no failover until" in (await cluster.type("list"))[1]
    assert "paused" in (await cluster.type("status", f"redis@{old}"))[1]

    os.kill(cluster.pid_of_redis(old), signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        while (program := (await cluster.found("list"))[0])["instances"][NAMES.index(old)]["status"] != "failed":
            await asyncio.sleep(0.1)
    assert program["primary"] == old
    assert "no failover: it is paused" in program["instances"][NAMES.index(old)]["reason"]

    done = await cluster.found("failover", f"redis@{old}")
    assert done["old"] == f"redis@{old}"
    assert is_text(say(connection, "GET", "colour"), "vermilion")
    connection.close()
    assert not (await cluster.found("resume", "redis"))["paused"]
    await cluster.mirrored()
    kinds = [one["kind"] for one in await cluster.found("history", "redis")]
    assert [kind for kind in kinds if kind in ("paused", "primary-promoted", "resumed")][-3:] == [
        "paused",
        "primary-promoted",
        "resumed",
    ]


async def test_a_failover_by_force(cluster: Operated) -> None:
    old = (await cluster.mirrored())["primary"]
    code, line, hint = await cluster.refused("failover", f"redis@{old}")
    assert (code, line) == (
        ExitCode.CONFLICT,
        f"the primary on node {old} serves: what it did of late would be lost",
    )
    assert "switchover" in hint
    target = next(name for name in NAMES if name != old)
    code, _, err = await cluster.type("failover", f"redis@{target}", "--force")
    assert code == ExitCode.USAGE
    assert f"redis@{target} holds a checkpoint" in err
    done = await cluster.found("failover", f"redis@{target}", "--force", "--yes")
    assert (done["old"], done["new"]) == (f"redis@{old}", f"redis@{target}")
    await cluster.mirrored()


async def test_what_a_program_writes_stands_in_the_log_of_its_node(cluster: Operated) -> None:
    """Before a takeover and after it, under the name of the instance."""
    old = (await cluster.mirrored())["primary"]
    connection = cluster.connect()
    await _speaks(cluster, connection, old)
    new = (await cluster.found("switchover", f"redis@{old}"))["new"].partition("@")[2]
    await _speaks(cluster, connection, new)
    connection.close()
    await cluster.mirrored()


async def _speaks(cluster: Operated, connection: Any, node: str) -> None:
    """Have redis write two lines, and wait until they are in the log."""
    log = cluster.daemons[node].log
    before = log.stat().st_size
    assert say(connection, "REPLICAOF", "127.0.0.1", "1") == b"+OK\r\n"
    assert say(connection, "REPLICAOF", "NO", "ONE") == b"+OK\r\n"
    async with asyncio.timeout(DEADLINE_S):
        while True:
            lines = log.read_bytes()[before:].decode().splitlines()
            found = [line for line in lines if f"instance=redis@{node}" in line and "MASTER MODE enabled" in line]
            if found:
                assert "event=program" in found[0]
                return
            await asyncio.sleep(0.05)
