"""A program is mirrored as a whole, seldom, and its table often: its node dies, and of the table nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from tests.cluster.operated import Operated, operated
from tests.cluster.sessions import install
from tests.cluster.trio import DEADLINE_S

pytestmark = pytest.mark.nodes

DEFINITION = """\
[program]
id = "sessions"
command = ["{executable}", "{port}"]

[mirror]
interval_ms = 1000

# Beside its locks its counter is left out, so that it is part of the rest: of the last checkpoint.
[[structures]]
symbol = "g_sessions"
exclude = ["g_sessions.lock", "g_sessions.entries.lock", "g_sessions.opened"]
interval_ms = 10
independent = true

[[structures]]
name = "whole"
symbol = "g_sessions"

[redirect]
driver = "address"
address = "{address}/32"
interface = "{interface}"
"""
MIRRORS = ("b", "c")
ROUND = 10
"""Sessions that are opened at once."""
NEW_MS = 200
STILL_MS = 800
"""The next checkpoint comes a second after the one before. A round begins with a new one, and counts if its node can be
killed before the next."""


async def ask(cluster: Operated, *lines: str) -> list[str]:
    """What a client is answered that asks until somebody does."""

    def asked() -> list[str]:
        answers = []
        with cluster.connect(timeout_s=2.0) as connection:
            for line in lines:
                connection.sendall(f"{line}\n".encode())
                answers.append(connection.recv(1 << 12).decode().strip())
        return answers

    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(OSError):
                answers = await asyncio.to_thread(asked)
                if all(answers):
                    return answers
            await asyncio.sleep(0.01)


async def shown(cluster: Operated, instance: str, name: str, elements: int = 1) -> dict[str, Any]:
    """What is shown of one structure of an instance, with so many sessions."""
    found = await cluster.found("structures", instance, name, "--elements", str(elements))
    return next(one for one in found["structures"] if one["name"] == name)


async def reached(cluster: Operated, count: int) -> None:
    """Wait until each mirror shows that so many sessions are open."""
    async with asyncio.timeout(DEADLINE_S):
        for node in MIRRORS:
            while True:
                table = await shown(cluster, f"sessions@{node}", "g_sessions", count + 1)
                entries = table["content"]["entries"]
                if entries[count - 1]["state"] == "OPEN":
                    assert entries[count]["state"] == "FREE"
                    assert (entries[0]["lock"], table["content"]["opened"]) == (None, None)
                    break


async def test_of_an_independent_structure_only_its_own_interval_is_lost() -> None:
    async with operated() as cluster:
        code, _, err = await cluster.type("create", "sessions", install(cluster, DEFINITION), "--no-wait")
        assert (code, err) == (0, "")
        await cluster.mirrored()
        opened = 0
        while True:
            while (await shown(cluster, "sessions@b", "whole"))["age_ms"] > NEW_MS:
                pass
            answers = await ask(cluster, *["OPEN ann"] * ROUND, f"PUT {opened} vermilion")
            assert answers == [*(f"OK {number}" for number in range(opened, opened + ROUND)), "OK 1"]
            opened += ROUND
            await reached(cluster, opened)
            wholes = [await shown(cluster, f"sessions@{node}", "whole") for node in MIRRORS]
            before = {whole["content"]["opened"] for whole in wholes}
            if max(whole["age_ms"] for whole in wholes) < STILL_MS and max(before) < opened:
                break
        cluster.machines.nodes["a"].kill()
        dead = cluster.daemons["a"]
        assert dead.process is not None
        dead.process.wait()
        dead.process = None
        # What was acknowledged is there ...
        assert await ask(cluster, "COUNT", f"GET {opened - ROUND}") == [f"OK {opened}", "OK ann 1 vermilion"]
        # ... although the rest is that of the last checkpoint.
        assert (await shown(cluster, "sessions", "whole"))["content"]["opened"] in before
        # It is mirrored again, and read between checkpoints again.
        assert await ask(cluster, "OPEN bob", f"GET {opened}") == [f"OK {opened}", "OK bob 0"]
        async with asyncio.timeout(DEADLINE_S):
            for instance in ("sessions@b", "sessions@c"):
                while not (table := await shown(cluster, instance, "g_sessions", opened + 1))["version"] or (
                    table["content"]["entries"][opened]["user"] != "bob"
                ):
                    pass
        logs = list(cluster.directory.logs.glob("*.log"))
        for node in MIRRORS:  # Either may have been chosen.
            logs += cluster.machines.nodes[node].own.rglob("*.log")
        assert any(b"a structure is newer than the checkpoint" in log.read_bytes() for log in logs)
