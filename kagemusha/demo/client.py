"""The client process as the scenario sees it: a request, its answer, both with a deadline."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import CHECKOUT, Machine


class Client:
    """Runs `kagemusha.demo.load`, or another module that answers as it does, on a machine. Its log is `log`."""

    def __init__(self, machine: Machine, log: Path, module: str = "kagemusha.demo.load") -> None:
        self._machine = machine
        self._log = log
        self._module = module
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process."""
        with self._log.open("w") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._machine.command(sys.executable, "-m", self._module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                limit=1 << 26,
                start_new_session=True,
            )

    async def ask(self, do: str, *, deadline_s: float = 30.0, **arguments: object) -> dict[str, Any]:
        """Send a request and return its answer; DemoError if the client refuses, dies, or is silent."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        try:
            async with asyncio.timeout(deadline_s):
                process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise DemoError(f"the client's {do} has no answer within {deadline_s:g} s", hint=self._see()) from error
        except ConnectionError:
            pass  # it has died, as an empty line says too
        if not line:
            raise DemoError(f"the client died in {do}", hint=self._see())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise DemoError(f"the client's {do} failed: {answer['why']}", hint=self._see())
        return answer

    def _see(self) -> str:
        return f"see {self._log}"

    async def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
