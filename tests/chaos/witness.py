"""A process of ours on a machine that says when it is ready, and writes what it has seen into a file when its standard
input ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from kagemusha.demo.nodes import CHECKOUT

READY_S = 30.0
WRITE_S = 300.0
"""What hours have shown is much."""


def say_ready() -> None:
    """What a witness does when it sees."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


class WitnessError(Exception):
    """A witness ended by itself, or not when it was asked to."""


class Witness:
    """Runs `python -m MODULE WORDS... FILE`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.file = directory / f"{name}.jsonl"
        self._name = name
        self._log = directory / "logs" / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, prefix: list[str], module: str, *words: str) -> None:
        """Until it is ready. prefix: the command line that leads into the machine. Raises WitnessError."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *prefix,
                *(sys.executable, "-m", module, *words, str(self.file)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                start_new_session=True,
            )

        if self._process.stdout is None or not await asyncio.wait_for(self._process.stdout.readline(), READY_S):
            raise WitnessError(f"the witness {self._name} is not ready; see {self._log}")

    async def finish(self) -> Path:
        """Let it end, and give its file. Raises WitnessError."""
        process = self._process
        if process is None or process.stdin is None:
            raise WitnessError(f"the witness {self._name} was not started")
        process.stdin.close()
        try:
            code = await asyncio.wait_for(process.wait(), WRITE_S)
        except TimeoutError:
            raise WitnessError(f"the witness {self._name} does not end; see {self._log}") from None
        if code:
            raise WitnessError(f"the witness {self._name} ended with status {code}; see {self._log}")
        return self.file

    async def close(self) -> None:
        """Kill it if it still is."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
