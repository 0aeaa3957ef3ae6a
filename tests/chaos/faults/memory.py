"""Memory that is not there: a process that the kernel kills for it, and a node where everybody waits for some."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar

from kagemusha.demo.nodes import ADDRESS
from kagemusha.demo.story import PORT
from tests.chaos.cgroup import Cgroup
from tests.chaos.faults.fault import Fault
from tests.chaos.plan import Target
from tests.chaos.processes import Role

_LIMIT_BYTES = 128 << 10
_MUCH_BYTES = 1 << 40
_WANTED_S = 20.0
_ASK = """
import os, socket, sys
long = 4 << 20
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as connection:
        connection.sendall(b"*3\\r\\n$5\\r\\nRPUSH\\r\\n$4\\r\\nlong\\r\\n$%d\\r\\n%s" % (long, os.urandom(long)))
except OSError:
    pass
"""
"""Arguments: host and port. The request is never ended, so nothing is done by it. What is in it can't be compressed:
zeros would need no memory at a mirror."""
_LOOK_AGAIN_S = 0.02


class _OutOfMemory(Fault):
    """The kernel kills the process of a role as soon as it wants more memory than there is (OOM)."""

    role: ClassVar[Role]

    async def begin(self) -> None:
        """See `Fault`."""
        self._pid = self.scene.pid(self.node, self.role)
        self._cgroup = Cgroup("memory", f"oom-{self.node}-{self.role}")
        self._cgroup.take([self._pid], {"memory.limit_in_bytes": str(_LIMIT_BYTES)})
        await self._urge()

    async def _urge(self) -> None:
        """Have it want more: send the program a request that is long, and ends before it is whole. Who is not let in
        asks again."""
        words = self.scene.machines.client.command(sys.executable, "-I", "-S", "-c", _ASK, ADDRESS, str(PORT))
        asking = await asyncio.create_subprocess_exec(*words)
        await asking.wait()

    async def effect(self) -> str:
        """See `Fault`."""
        killed = await _comes(self._cgroup, "oom_kill", self._urge)
        return (
            f"the kernel killed process {self._pid}, the {self.role} of node {self.node}, for memory" if killed else ""
        )

    async def heal(self) -> None:
        """See `Fault`."""
        self._cgroup.write("memory.limit_in_bytes", str(_MUCH_BYTES))
        await asyncio.to_thread(self._cgroup.release)


class ProgramOutOfMemory(_OutOfMemory):
    """The program, by a request that is too long for it. To its agent it looks as any kill from outside, but it dies
    in the middle of the system call that wanted the memory, and what that did can't be trusted: the checkpoint before
    counts."""

    kind = "program-out-of-memory"
    targets: ClassVar[tuple[Target, ...]] = ("primary",)
    programs = ("redis", "python")
    role = "program"


class AgentOutOfMemory(_OutOfMemory):
    """An agent. One whose program changes no more than ever has all the memory that it needs, so the program is asked
    for much: what that changes in it has to be taken, or held."""

    kind = "agent-out-of-memory"
    targets = ("primary", "mirror")
    role = "agent"


class DaemonOutOfMemory(_OutOfMemory):
    """A daemon."""

    kind = "daemon-out-of-memory"
    role = "daemon"
    ends_daemons = True

    async def _urge(self) -> None:
        """It wants more by itself."""


class MemoryStarved(Fault):
    """Daemon, watchdog and agent of a node get no page more: each waits, in the kernel, at the first that it wants."""

    kind = "memory-starved"
    ends_daemons = True

    async def begin(self) -> None:
        """See `Fault`."""
        roles: tuple[Role, ...] = ("daemon", "watchdog", "agent")
        pids = [pid for role in roles for pid in self.scene.pids(self.node, role)]
        self._cgroup = Cgroup("memory", f"starved-{self.node}")
        # Whoever finds none waits instead of being killed (admin-guide/cgroup-v1/memory, 10).
        self._cgroup.take_all(pids, {"memory.limit_in_bytes": str(_LIMIT_BYTES), "memory.oom_control": "1"})

    async def effect(self) -> str:
        """See `Fault`."""
        waits = await _comes(self._cgroup, "under_oom")
        return f"somebody on node {self.node} waits for memory" if waits else ""

    async def heal(self) -> None:
        """See `Fault`."""
        self._cgroup.write("memory.limit_in_bytes", str(_MUCH_BYTES))
        await asyncio.to_thread(self._cgroup.release)


async def _nothing() -> None:
    """Whoever is waited for needs no urging."""


async def _comes(cgroup: Cgroup, name: str, urge: Callable[[], Awaitable[None]] = _nothing) -> bool:
    """Wait until the kernel counts something (admin-guide/cgroup-v1/memory): whoever needs no page notices nothing.
    urge: called between two looks."""
    end_s = time.monotonic() + _WANTED_S
    while not int(dict(line.split() for line in cgroup.read("memory.oom_control").splitlines())[name]):
        if time.monotonic() > end_s:
            return False
        await urge()
        await asyncio.sleep(_LOOK_AGAIN_S)
    return True
