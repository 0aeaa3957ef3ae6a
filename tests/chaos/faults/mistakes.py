"""Mistakes of operators and of the neighbours: wrong files on a node, a second daemon of the same name, a foreign
machine with the program's address."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from abc import abstractmethod

from kagemusha.demo.nodes import ADDRESS
from tests.chaos.faults.fault import Fault
from tests.chaos.processes import NoProcess
from tests.chaos.stranger import Stranger, neighbour
from transport.pki import Authority

_SHOWS_S = 30.0
_LOOK_AGAIN_S = 0.1


class _WrongFiles(Fault):
    """A daemon is started again with files that can't be right; then with the right ones."""

    ends_daemons = True

    @abstractmethod
    def spoil(self) -> None:
        """Make them wrong."""

    @abstractmethod
    def mend(self) -> None:
        """Make them right."""

    async def begin(self) -> None:
        """See `Fault`."""
        self._starts = self.scene.keepers[self.node].starts
        self.spoil()
        os.kill(self.scene.pid(self.node, "daemon"), signal.SIGTERM)

    async def effect(self) -> str:
        """See `Fault`."""
        starts = await self.scene.keepers[self.node].started(self._starts)
        end_s = time.monotonic() + _SHOWS_S
        while time.monotonic() < end_s:
            nodes = {one["node"]: one["alive"] for one in await self.scene.operator.nodes()}
            if starts > self._starts and not nodes[self.node]:
                return f"node {self.node} is not let in"
            await asyncio.sleep(_LOOK_AGAIN_S)
        return ""

    async def heal(self) -> None:
        """See `Fault`."""
        self.mend()
        try:
            os.kill(self.scene.pid(self.node, "daemon"), signal.SIGTERM)
        except NoProcess:
            pass  # It has ended by itself, and is started again.


class WrongCertificate(_WrongFiles):
    """A certificate of another cluster's authority."""

    kind = "wrong-certificate"
    targets = ("mirror", "follower")

    def spoil(self) -> None:
        """See `_WrongFiles`."""
        self._pki = self.scene.nodes[self.node].own_path("pki")[0]
        self._right = self._pki.with_name("pki-right")
        shutil.copytree(self._pki, self._right)
        Authority.create("another").issue(self.node).save(self._pki)

    def mend(self) -> None:
        """See `_WrongFiles`."""
        for file in self._right.iterdir():
            os.replace(file, self._pki / file.name)
        self._right.rmdir()


class WrongCluster(_WrongFiles):
    """The id of another cluster in node.toml."""

    kind = "wrong-cluster"
    targets = ("mirror", "follower")

    def spoil(self) -> None:
        """See `_WrongFiles`."""
        self._file = self.scene.nodes[self.node].own_path("node.toml")[0]
        self._right = self._file.read_text()
        self._file.write_text(self._right.replace('[cluster]\nid = "', '[cluster]\nid = "not-'))

    def mend(self) -> None:
        """See `_WrongFiles`."""
        self._file.write_text(self._right)


class DuplicateNode(Fault):
    """A second daemon with a node's name and a copy of its certificate, on a machine of its own."""

    kind = "duplicate-node"
    loses = "nothing"

    async def begin(self) -> None:
        """See `Fault`."""
        scene, node = self.scene, self.scene.nodes[self.node]
        self._stranger = Stranger(scene.directory.run_id)
        self._stranger.attach()
        config = self._stranger.pose_as(node, scene.directory.path / "stranger")
        self._log = scene.directory.logs / "daemon-stranger.log"
        self._daemon = self._stranger.run_node(config, self._log)

    async def effect(self) -> str:
        """See `Fault`."""
        end_s = time.monotonic() + _SHOWS_S
        why = (f"two daemons run as node {self.node}", f"[[nodes]] differ between node {self.node}")
        while time.monotonic() < end_s:
            said = self._log.read_text(errors="replace")
            if any(one in said for one in why):
                return f"the second daemon of the name {self.node} is refused"
            await asyncio.sleep(_LOOK_AGAIN_S)
        return ""

    async def heal(self) -> None:
        """See `Fault`."""
        await asyncio.to_thread(self._stranger.detach)
        await asyncio.to_thread(self._stranger.close)
        self._daemon.wait()
        shutil.rmtree(self.scene.directory.path / "stranger")


class ForeignAddress(Fault):
    """A foreign machine takes the program's address, and says so to everybody."""

    kind = "foreign-address"
    targets = ("primary",)
    loses = "nothing"

    async def begin(self) -> None:
        """See `Fault`."""
        self._stranger = Stranger(self.scene.directory.run_id)
        self._stranger.attach()
        self._stranger.take(ADDRESS)
        believed = neighbour(self.scene.machines.client, ADDRESS)
        self._effect = "clients go to the foreign machine" if believed == self._stranger.hardware_address else ""

    async def effect(self) -> str:
        """See `Fault`."""
        return self._effect

    async def heal(self) -> None:
        """See `Fault`."""
        await asyncio.to_thread(self._stranger.detach)
        await asyncio.to_thread(self._stranger.close)
