"""A node's daemon as `kagemusha node` runs it, and the node.toml that the demo writes for it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable

from cluster.fencing.cgroup import CgroupError, ProgramCgroup
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Directory, Node
from kagemusha.demo.process import last_line, start_python
from kagemusha.demo.story import PROGRAM_ID

COMMAND: tuple[str, ...] = ("-m", "kagemusha", "node")
ADMIN_PORT = 7402


def cluster_id(directory: Directory) -> str:
    """The cluster of this run, which no other has."""
    return f"demo-{directory.run_id}"


def node_toml(node: Node, nodes: Iterable[Node]) -> str:
    """The settings of a node: its own id and places, everything else as a node.toml has it by itself."""
    here = node.directory.node
    tables = "\n".join(
        f'[[nodes]]\nid = "{one.name}"\naddress = "{one.address}:7400"\nraft = "{one.address}:7401"\n'
        f'admin = "{one.address}:{ADMIN_PORT}"\n'
        for one in nodes
    )
    return (
        f'[node]\nid = "{node.name}"\ndata = "{here}/data"\nrun = "{here}/run"\npki = "{here}/pki"\n\n'
        f'[cluster]\nid = "{cluster_id(node.directory)}"\n\n[api]\ntokens = "{here}/tokens.toml"\n\n{tables}'
    )


class Daemon:
    """The daemon of one node; its log is `log`, over all of its lives."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.log = node.directory.logs / f"daemon-{node.name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it may not answer yet."""
        config = self.node.directory.node / "node.toml"
        self._process = await start_python(self.node, (*COMMAND, "--config", str(config)), self.log)

    def check(self) -> None:
        """DemoError, with its own words, if it has ended though nobody killed its node."""
        if self._process is not None and self._process.returncode is not None and not self.node.is_cut:
            words = last_line(self.log)
            what = f"the daemon of node {self.node.name} ended with status {self._process.returncode}: {words}"
            raise DemoError(what, hint=f"see {self.log}")

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    async def boot(self, mount: Callable[[], None] = lambda: None) -> None:
        """The node's power is back: what a boot empties is empty, and the daemon is started again. mount: called when
        the machine is there, before its daemon is."""
        await self.ended()
        await asyncio.to_thread(self.node.boot)
        await asyncio.to_thread(mount)
        shutil.rmtree(self.node.own_path("run")[0], ignore_errors=True)
        await self.start()

    async def close(self) -> None:
        """Kill the process if it still is; what its programs were kept in is removed."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self.ended()

    def remove_cgroups(self, programs: Iterable[str] = (PROGRAM_ID,)) -> None:
        """Remove what outlives the node's processes and would stay on this machine."""
        name = f"kagemusha/{cluster_id(self.node.directory)}-{self.node.name}"
        for one in (*(f"{name}/{program}" for program in programs), name):
            try:
                ProgramCgroup.create(one).remove()
            except CgroupError:
                continue

    async def ended(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            await self._process.wait()
