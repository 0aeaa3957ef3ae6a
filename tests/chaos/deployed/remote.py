"""A node that is reached by SSH: what `node.sh` does there."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Final

from tests.chaos.deployed.inventory import Machine

_SCRIPT: Final = Path(__file__).with_name("node.sh")
_DEADLINE_S: Final = 60.0
_LOST: Final = 255
"""ssh(1): the connection itself failed."""


class RemoteError(OSError):
    """It was not done, or nobody knows whether it was."""


class Remote:
    """Does one thing at a time, each over a connection of its own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def command(self, *words: str) -> list[str]:
        """The command line that has it done; the script is its standard input."""
        return [*self.machine.ssh, shlex.join(["sh", "-s", "--", *words])]

    async def do(self, *words: str, deadline_s: float = _DEADLINE_S, may_be_cut: bool = False) -> list[str]:
        """The lines that it said. may_be_cut: the connection may end with it. Raises RemoteError."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        name = f"node {self.machine.name}: {words[0]}"
        try:
            async with asyncio.timeout(deadline_s):
                out, trouble = await process.communicate(_SCRIPT.read_bytes())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise RemoteError(f"{name}: no end within {deadline_s:g} s") from None
        if process.returncode and not (may_be_cut and process.returncode == _LOST):
            said = " ".join(trouble.decode(errors="replace").split())[-300:]
            raise RemoteError(f"{name}: exit status {process.returncode}: {said}")
        return out.decode(errors="replace").splitlines()
