"""Three real daemons as `kagemusha node` runs them, and an operator who types commands on one of the nodes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from typing import Any
from unittest.mock import patch

from agent.kernel.namespaces import in_network_namespace
from kagemusha import command_line
from kagemusha.demo.nodes import CHECKOUT, Directory, Machines
from tests.cluster.admin.served import tokens_in
from tests.cluster.trio import DEADLINE_S, NAMES, Trio, on_three_machines

DESK = "c"
"""The node at which the operator sits."""


class Operated(Trio):
    """A cluster of daemons, and the operator. tokens: one for each scope."""

    def __init__(self, directory: Directory, machines: Machines) -> None:
        super().__init__(directory, machines)
        file, self.tokens = tokens_in(directory.path)
        for node in machines.nodes.values():
            (node.own / "tokens.toml").write_text(file.read_text())
            with (node.own / "node.toml").open("a") as settings:
                settings.write(f'[api]\ntokens = "{directory.node}/tokens.toml"\n')
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "KAGEMUSHA_TOKEN": self.tokens["admin"],
            "KAGEMUSHA_AUTHORITY": str(machines.nodes[DESK].own / "pki" / "authority.pem"),
        }
        self._keyboard = asyncio.Lock()

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
                env=self.environment,
                start_new_session=True,
            )

    def endpoint(self, name: str) -> str:
        """The API of a node."""
        return f"{self.machines.nodes[name].address}:7402"

    async def type(self, *words: str, at: str = DESK, **environment: str) -> tuple[int, str, str]:
        """Type a command that asks node `at`; gives exit code, stdout, stderr. The command runs in this process, which
        spares its start, and in the network of the desk."""
        environment = {"KAGEMUSHA_ENDPOINTS": self.endpoint(at), **environment}
        async with self._keyboard:
            return await asyncio.wait_for(asyncio.to_thread(self._typed, words, environment), 2 * DEADLINE_S)

    def _typed(self, words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with open(self.machines.nodes[DESK].network.path, "rb") as namespace:
            with in_network_namespace(namespace.fileno()), patch.dict(os.environ, {**self.environment, **environment}):
                with redirect_stdout(out), redirect_stderr(err):
                    code = command_line.run(words)
        return code, out.getvalue(), err.getvalue()

    async def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """Run Python at the desk, in a process of its own."""
        process = await asyncio.create_subprocess_exec(
            *self.machines.nodes[DESK].command(sys.executable, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=CHECKOUT,
            env={
                **self.environment,
                "KAGEMUSHA_AUTHORITY": str(self.directory.node / "pki" / "authority.pem"),
                **environment,
            },
        )
        out, err = await asyncio.wait_for(process.communicate(), 2 * DEADLINE_S)
        return process.returncode or 0, out.decode(), err.decode()

    async def refused(self, *words: str, at: str = DESK, **environment: str) -> tuple[int, str, str]:
        """Exit code, the one line and the hint of a command that is refused."""
        code, out, err = await self.type(*words, at=at, **environment)
        lines = err.splitlines()
        assert code != 0, out
        assert len(lines) == 2, err
        assert lines[1].startswith("hint: "), err
        return code, lines[0], lines[1].removeprefix("hint: ")

    async def found(self, *words: str, at: str = DESK) -> Any:
        """What a command found, as JSON."""
        code, out, err = await self.type(*words, "-o", "json", at=at)
        assert code == 0, (words, err, self.directory.logs)
        return json.loads(out)

    async def assembled(self) -> None:
        """Wait until all nodes are there and one leads."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                code, out, _ = await self.type("topology", "-o", "json")
                nodes = json.loads(out)["nodes"] if code == 0 else []
                if len(nodes) == len(NAMES) and all(one["alive"] for one in nodes) and any(n["leader"] for n in nodes):
                    return
                await asyncio.sleep(0.1)

    async def mirrored(self) -> dict[str, Any]:
        """Wait until every instance of redis is mirrored; gives the program."""
        async with asyncio.timeout(2 * DEADLINE_S):
            while True:
                [program] = await self.found("list")
                if {one["status"] for one in program["instances"]} == {"mirrored"}:
                    return dict(program)
                await asyncio.sleep(0.1)


@asynccontextmanager
async def operated() -> AsyncIterator[Operated]:
    """Three nodes without a program."""
    async with on_three_machines(Operated) as cluster:
        for name in NAMES:
            cluster.start(name)
        await cluster.assembled()
        yield cluster
