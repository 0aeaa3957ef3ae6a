"""keepalived that dies or hangs, and track files that say what is not so. Only where keepalived carries the address."""

from __future__ import annotations

import os
import signal
from typing import ClassVar

from tests.chaos.carrier import Keepalived
from tests.chaos.faults.fault import Fault
from tests.chaos.plan import Target
from tests.chaos.processes import NoProcess, state_of


class _OfCarrier(Fault):
    """Costs nothing: the daemon has the last word about the address."""

    driver = "keepalived"
    targets: ClassVar[tuple[Target, ...]] = ("primary", "mirror")
    loses = "nothing"

    @property
    def carrier(self) -> Keepalived:
        """That of the node. Raises NoProcess."""
        carrier = self.scene.keepers[self.node].carrier
        if carrier is None:
            raise NoProcess(f"node {self.node} has no keepalived")
        return carrier


class KeepalivedKilled(_OfCarrier):
    """SIGKILL to all of keepalived; the init system starts it again after 0.1 s."""

    kind = "keepalived-killed"

    async def begin(self) -> None:
        """See `Fault`."""
        self._pids = self.scene.pids(self.node, "keepalived")
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)

    async def effect(self) -> str:
        """See `Fault`."""
        left = set(self._pids) & set(self.scene.nodes[self.node].network.processes())
        return f"processes {self._pids}, keepalived of node {self.node}, are gone" if self._pids and not left else ""


class KeepalivedStopped(_OfCarrier):
    """It hangs."""

    kind = "keepalived-stopped"

    async def begin(self) -> None:
        """See `Fault`."""
        self._pids = self.scene.pids(self.node, "keepalived")
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)

    async def effect(self) -> str:
        """See `Fault`."""
        still = self._pids and all(state_of(pid) in "Tt" for pid in self._pids)
        return f"processes {self._pids}, keepalived of node {self.node}, stand still" if still else ""

    async def heal(self) -> None:
        """See `Fault`."""
        for pid in self._pids:
            os.kill(pid, signal.SIGCONT)


class _Track(_OfCarrier):
    """The file says something else for as long as the daemon lets it."""

    text: str

    async def begin(self) -> None:
        """See `Fault`."""
        file = self.carrier.track_file
        self._before = file.read_text() if file.exists() else ""
        file.write_text(self.text)
        self._is_written = file.read_text() == self.text != self._before

    async def effect(self) -> str:
        """See `Fault`."""
        return f"the file of node {self.node} said {self.text!r} after {self._before!r}" if self._is_written else ""

    async def heal(self) -> None:
        """See `Fault`."""
        file = self.carrier.track_file
        if file.exists() and file.read_text() == self.text:
            file.write_text(self._before)


class TrackStale(_Track):
    """A mirror's keepalived is told that it may have the address, as a file that was left over would."""

    kind = "track-stale"
    targets = ("mirror",)
    text = "1\n"


class TrackGarbage(_Track):
    """The primary's keepalived is told nothing that it understands."""

    kind = "track-garbage"
    targets = ("primary",)
    text = "what?\n"
