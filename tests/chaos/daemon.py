"""A node's daemon of a release of its own, which goes by clocks of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

from kagemusha.demo.cluster.daemon import COMMAND, Daemon
from kagemusha.demo.nodes import CHECKOUT, Directory, Node
from tests.chaos.clocks.node_clocks import NodeClocks

_PACKAGES = ("agent", "cluster", "kagemusha", "transport")


class ReleasedDaemon(Daemon):
    """release: the directory of the code that it and what it starts are made of; from the next start on."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.release = CHECKOUT
        self.clocks = NodeClocks(node)

    async def start(self) -> None:
        """See `Daemon`."""
        config = self.node.directory.node / "node.toml"
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.node.command(sys.executable, *COMMAND, "--config", str(config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.clocks.environment, "PYTHONPATH": str(self.release)},
                cwd="/",
                start_new_session=True,
            )


def make_release(directory: Directory) -> Path:
    """Another installed copy of the code, with a version of its own, in the run's directory, which every node sees."""
    number = len(list(directory.path.glob("release-*"))) + 1
    place = directory.path / f"release-{number}"
    for package in _PACKAGES:
        shutil.copytree(CHECKOUT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    about = place / f"kagemusha-0.1.0.post{number}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kagemusha\nVersion: 0.1.0.post{number}\n")
    return place


def release_of(pid: int) -> str:
    """The directory of the code that a process was started with; "" for one that is gone."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((word.partition(b"=")[2].decode() for word in words if word.startswith(b"PYTHONPATH=")), "")
