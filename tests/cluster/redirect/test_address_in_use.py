"""Three real nodes, and somebody else who has the program's address: nothing is created there, no context is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

from kagemusha.demo.nodes import ADDRESS, INTERFACE
from kagemusha.exit_codes import ExitCode
from tests.chaos.stranger import Stranger
from tests.cluster.operated import Operated, operated
from tests.cluster.trio import DEADLINE_S, is_text, say

pytestmark = pytest.mark.nodes
PATIENCE_S = 5.5
"""Longer than any other mirror may take to serve."""


def has_address(stranger: Stranger) -> str:
    """Plug it in, with the program's address; gives who it is. It says nothing before it is asked."""
    stranger.attach()
    stranger.network.ip(f"addr add {ADDRESS}/32 dev {INTERFACE}")
    return f"{ADDRESS} is used by {stranger.hardware_address} on {INTERFACE} already"


async def listed(cluster: Operated, is_so: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Wait until the primary is so, as `kagemusha list` shows it."""
    found: dict[str, str] = {}
    async with asyncio.timeout(DEADLINE_S):
        while not found or not is_so(found):
            [program] = await cluster.found("list")
            found = next((one for one in program["instances"] if one["node"] == program["primary"]), {})
            await asyncio.sleep(0.05)
    return found


async def test_whoever_has_the_address_is_named_and_costs_no_context() -> None:
    async with operated() as cluster:
        stranger = Stranger(cluster.directory.run_id)
        try:
            who = has_address(stranger)
            code, line, _ = await cluster.refused("create", "redis", cluster.program)
            assert (code, line) == (ExitCode.PREFLIGHT, f"node a: {who}"), line
            stranger.detach()
            await cluster.found("create", "redis", cluster.program)

            # Another program with the same address.
            for node in cluster.machines.nodes.values():
                text = (node.own / "program.toml").read_text()
                (node.own / "other.toml").write_text(text.replace('id = "redis"', 'id = "other"'))
            other = cluster.program.replace("program.toml", "other.toml")
            code, line, hint = await cluster.refused("create", "other", other)
            assert (code, line) == (ExitCode.CONFLICT, f"program redis has the address {ADDRESS} already"), line
            assert hint == "two programs can't share it"

            connection = cluster.connect()
            assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
            who = has_address(stranger)
            os.kill(cluster.pid_of_redis("a"), signal.SIGKILL)
            waiting = await listed(cluster, lambda one: one["node"] != "a" and ADDRESS in one["reason"])
            why = f"{who}; take it away there, and it goes on from its context by itself"
            assert (waiting["status"], waiting["reason"]) == ("starting", why)
            status = await cluster.found("status", waiting["instance"])
            assert (status["role"], status["status"], status["reason"]) == ("primary", "starting", why)
            said = [one["text"] for one in await cluster.found("history", "redis")]
            assert f"primary {waiting['instance']} is starting: {why}" in said, said
            end_s = time.monotonic() + PATIENCE_S
            while time.monotonic() < end_s:
                [program] = await cluster.found("list")
                assert (program["token"], program["primary"]) == (2, waiting["node"]), program
                await asyncio.sleep(0.2)

            stranger.detach()
            await listed(cluster, lambda one: one["status"] in ("running", "mirrored") and not one["reason"])
            # The client was still meanwhile: its connection goes on, too.
            assert is_text(say(connection, "GET", "colour"), "vermilion")
            connection.close()
            program = await cluster.mirrored()
            assert (program["token"], program["primary"]) == (2, waiting["node"])
        finally:
            stranger.close()
