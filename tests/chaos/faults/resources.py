"""A node that has run out of something."""

from __future__ import annotations

import asyncio
import resource
from itertools import count

from tests.chaos.faults.fault import Fault
from tests.chaos.processes import Role, open_descriptors


class _NoDescriptors(Fault):
    """No descriptor more for a process: the lowest number that is free is one too many (EMFILE, getrlimit(2))."""

    role: Role

    async def begin(self) -> None:
        """See `Fault`."""
        self._pid = self.scene.pid(self.node, self.role)
        taken = set(open_descriptors(self._pid))
        self._limit = next(number for number in count() if number not in taken)
        self._before = resource.prlimit(self._pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, (self._limit, self._before[1]))

    async def effect(self) -> str:
        """See `Fault`."""
        try:
            soft, _ = resource.prlimit(self._pid, resource.RLIMIT_NOFILE)
        except ProcessLookupError:
            return f"process {self._pid}, the {self.role} of node {self.node}, has ended of it"
        return f"process {self._pid}, the {self.role} of node {self.node}, gets no descriptor above {soft}"

    async def heal(self) -> None:
        """See `Fault`."""
        try:
            resource.prlimit(self._pid, resource.RLIMIT_NOFILE, self._before)
        except ProcessLookupError:
            pass


class DaemonOutOfDescriptors(_NoDescriptors):
    """A daemon can't open anything more."""

    kind = "daemon-out-of-descriptors"
    role = "daemon"
    ends_daemons = True


class AgentOutOfDescriptors(_NoDescriptors):
    """An agent can't open anything more."""

    kind = "agent-out-of-descriptors"
    targets = ("primary", "mirror")
    role = "agent"


class DiskFull(Fault):
    """Nothing more can be written to the disk of a node (ENOSPC)."""

    kind = "disk-full"
    ends_daemons = True

    async def begin(self) -> None:
        """See `Fault`."""
        self._disk = self.scene.keepers[self.node].disk
        await asyncio.to_thread(self._disk.fill)
        self._is_full = self._disk.is_full()

    async def effect(self) -> str:
        """See `Fault`."""
        return f"no block was free on the disk of node {self.node}" if self._is_full else ""

    async def heal(self) -> None:
        """See `Fault`."""
        self._disk.clear()
