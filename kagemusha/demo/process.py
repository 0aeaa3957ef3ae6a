"""A process of ours on a node of the demo, and the last that it said."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kagemusha.demo.nodes import CHECKOUT, Node


async def start_python(node: Node, words: Sequence[str], log: Path) -> asyncio.subprocess.Process:
    """Start Python with these words in the node's namespaces; what it says goes to the end of `log`."""
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *node.command(sys.executable, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            start_new_session=True,
        )


def last_line(log: Path) -> str:
    """The last line of a log that is no hint."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.startswith("hint:")), "it said nothing")
