"""Three real daemons and a redis, asked and commanded by the command line as an operator would."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cluster.admin.auth import entry_text, make_token
from kagemusha.demo.nodes import CHECKOUT, Directory, Machines, clear_crashed_runs, new_run_id
from kagemusha.exit_codes import ExitCode
from tests.cluster.trio import DEADLINE_S, NAMES, Trio, is_text, say


class Operated(Trio):
    """A cluster of daemons as `kagemusha node` runs them, and an operator on one of the nodes."""

    def __init__(self, directory: Directory, machines: Machines) -> None:
        super().__init__(directory, machines)
        self.token, digest = make_token()
        for node in machines.nodes.values():
            (node.own / "tokens.toml").write_text(entry_text("test", "admin", digest))
            with (node.own / "node.toml").open("a") as settings:
                settings.write(f'[api]\ntokens = "{directory.node}/tokens.toml"\n')
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "KAGEMUSHA_TOKEN": self.token,
            "KAGEMUSHA_AUTHORITY": f"{directory.node}/pki/authority.pem",
        }

    def start(self, name: str) -> None:
        """Start the daemon of a node."""
        daemon = self.daemons[name]
        words = ("-m", "kagemusha", "node", "--config", str(self.directory.node / "node.toml"))
        with daemon.log.open("ab") as log:
            daemon.process = subprocess.Popen(
                daemon.node.command(sys.executable, *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                env=self._environment,
                start_new_session=True,
            )

    async def type(self, *words: str, at: str = "c") -> tuple[int, str, str]:
        """Type a command on node c, which asks node `at`; gives exit code, stdout, stderr."""
        endpoint = f"{self.machines.nodes[at].address}:7402"
        command = self.machines.nodes["c"].command(sys.executable, "-m", "kagemusha", *words, "-e", endpoint)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=CHECKOUT,
            env=self._environment,
        )
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        return process.returncode or 0, out.decode(), err.decode()

    async def found(self, *words: str, at: str = "c") -> Any:
        """What a command found, as JSON."""
        code, out, err = await self.type(*words, "-o", "json", at=at)
        assert code == 0, (words, err, self.directory.logs)
        return json.loads(out)

    async def settled(self, *words: str, wanted: str) -> None:
        """Wait until a command that may still be refused is done and shows this."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                code, out, _ = await self.type(*words)
                if code == 0 and wanted in out:
                    return
                await asyncio.sleep(0.2)


@asynccontextmanager
async def operated() -> AsyncIterator[Operated]:
    """Three nodes without a program."""
    clear_crashed_runs()
    directory = Directory(new_run_id())
    keep = True
    try:
        machines = Machines(directory, NAMES)
        try:
            cluster = Operated(directory, machines)
            for name in NAMES:
                cluster.start(name)
            await cluster.settled("topology", wanted="leader")
            yield cluster
            keep = False
        finally:
            machines.close()
            for daemon in cluster.daemons.values():
                if daemon.process is not None:
                    daemon.process.wait(DEADLINE_S)
    finally:
        directory.close(keep=keep)


async def test_an_operators_day() -> None:
    async with operated() as cluster:
        created = await cluster.found("create", "redis", cluster.program)
        assert {one["status"] for one in created["instances"]} == {"mirrored"}
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        for at in NAMES:
            assert [one["program"] for one in await cluster.found("list", at=at)] == ["redis"]
            status = await cluster.found("status", "redis@a", at=at)
            assert (status["role"], status["status"], len(status["mirrors"])) == ("primary", "mirrored", 2)
            assert status["lease_age_ms"] is not None
        for instance in ("redis@a", "redis@b"):
            context = await cluster.found("context", instance)
            assert len(context["threads"]) > 1
            assert [one["state"] for one in context["connections"]].count("connected") == 1

        code, _, err = await cluster.type("create", "redis", cluster.program)
        assert (code, err.splitlines()[0]) == (ExitCode.CONFLICT, "there is a program 'redis' already")
        code, _, err = await cluster.type("switchover", "redis@z")
        assert (code, err.splitlines()[0]) == (ExitCode.UNKNOWN, "there is no instance redis@z")

        done = await cluster.found("switchover", "redis@b")
        assert (done["old"], done["new"], done["token"]) == ("redis@a", "redis@b", 2)
        assert done["timeline"]
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()

        code, _, err = await cluster.type("delete", "redis", "--yes")
        assert code == 0, err
        assert await cluster.found("list") == []


async def test_files_that_differ() -> None:
    async with operated() as cluster:
        other = cluster.machines.nodes["b"].own / Path(cluster.program).name
        text = other.read_text()
        other.write_text(text.replace("interval_ms = 50", "interval_ms = 60"))
        code, _, err = await cluster.type("create", "redis", cluster.program)
        assert code == ExitCode.CONFLICT, err
        assert "does not say the same on node b as on node a" in err
        other.unlink()
        code, _, err = await cluster.type("create", "redis", cluster.program)
        assert code == ExitCode.CONFLICT, err
        assert err.startswith("node b: ")
        assert await cluster.found("list") == []


async def test_without_a_quorum_nothing_is_changed_and_it_is_said_how_many_are_missing() -> None:
    async with operated() as cluster:
        for name in ("a", "b"):
            cluster.machines.nodes[name].kill()
        async with asyncio.timeout(DEADLINE_S):
            while (refused := await cluster.type("create", "redis", cluster.program))[0] != ExitCode.NO_QUORUM:
                await asyncio.sleep(0.2)
        line, hint = refused[2].splitlines()
        assert line == "no quorum: 1 of 3 nodes in reach, 1 more needed; not in reach: a, b"
        assert hint.startswith("hint: ")
        nodes = (await cluster.found("topology"))["nodes"]
        assert [one["alive"] for one in nodes] == [False, False, True]
