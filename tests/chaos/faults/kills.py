"""kill -9 of one process. What ends is started again by whoever looks after it, so there is nothing to heal."""

from __future__ import annotations

import os
import select
import signal
from typing import ClassVar

from tests.chaos.faults.fault import Fault
from tests.chaos.processes import Role

_GONE_MS = 2000


class _Killed(Fault):
    """SIGKILL to the process of a role."""

    role: ClassVar[Role]

    async def begin(self) -> None:
        """See `Fault`."""
        self._pid = self.scene.pid(self.node, self.role)
        self._handle = os.pidfd_open(self._pid)
        signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    async def effect(self) -> str:
        """See `Fault`."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        gone = bool(poll.poll(_GONE_MS))
        os.close(self._handle)
        return f"process {self._pid}, the {self.role} of node {self.node}, is gone" if gone else ""


class ProgramKilled(_Killed):
    """The program itself; out of memory looks the same. Nothing is lost: its dying process is read."""

    kind = "program-killed"
    targets = ("primary",)
    loses = "nothing"
    role = "program"


class ShadowKilled(_Killed):
    """The frozen process of a mirror."""

    kind = "shadow-killed"
    targets = ("mirror",)
    loses = "nothing"
    role = "program"


class AgentKilled(_Killed):
    """An agent. If it dies while it borrows a thread of the program, that counts as the loss of its node."""

    kind = "agent-killed"
    targets = ("primary", "mirror")
    role = "agent"


class DaemonKilled(_Killed):
    """A daemon. The agent holds the program at a last checkpoint, so nothing is lost."""

    kind = "daemon-killed"
    loses = "nothing"
    role = "daemon"
    ends_daemons = True


class WatchdogKilled(_Killed):
    """The watchdog of a node."""

    kind = "watchdog-killed"
    targets = ("primary", "mirror")
    role = "watchdog"
    ends_daemons = True
