"""keepalived on one node, as an operator sets it up (docs/redirect.md), and the file that tells it what it may."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kagemusha.demo.nodes import Node
from kagemusha.demo.story import PROGRAM_ID
from tests.cluster.redirect.keepalived import include_text, settings_text, start_command

ROUTER_ID = 51
DRIVER = f'driver = "keepalived"\nrouter_id = {ROUTER_ID}'


class Keepalived:
    """Its log is in the run's logs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._log = node.directory.logs / f"keepalived-{node.name}.log"
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
        """Start it; what one that was killed has left is taken away, as an init system does."""
        own = self._node.own
        (own / "keepalived.conf").write_text(include_text(self._node.directory.node))
        for name in ("keepalived.pid", "vrrp.pid"):
            (own / name).unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._node.command(*start_command(self._node.directory.node)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def ended(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            await self._process.wait()
