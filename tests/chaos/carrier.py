"""keepalived on one node, as an operator sets it up (docs/redirect.md), and the file that tells it what it may."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kagemusha.demo.nodes import Node
from kagemusha.demo.story import PROGRAM_ID
from tests.cluster.redirect.keepalived import include_text, settings_text
from tests.cluster.redirect.on_nodes import log_of, words_to_start


class Keepalived:
    """Its log is in the run's logs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._process: asyncio.subprocess.Process | None = None

    @property
    def settings(self) -> str:
        """What node.toml says of it."""
        return settings_text(self._node.directory.node)

    @property
    def track_file(self) -> Path:
        """What it looks at, see `transport.track_file`."""
        return self._node.own / "run" / f"{PROGRAM_ID}.track"

    async def start(self) -> None:
        """Start it."""
        (self._node.own / "keepalived.conf").write_text(include_text(self._node.directory.node))
        with log_of(self._node).open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *words_to_start(self._node),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ended(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            await self._process.wait()
