"""What operators do on an ordinary day, under load. It costs nothing."""

from __future__ import annotations

import os
import signal

from tests.chaos.faults.fault import Fault


class SwitchedOver(Fault):
    """A planned switchover to a mirror."""

    kind = "switched-over"
    targets = ("mirror",)
    loses = "nothing"

    async def begin(self) -> None:
        """See `Fault`."""
        await self.scene.operator.switch_over(self.node)

    async def effect(self) -> str:
        """See `Fault`."""
        primary = (await self.scene.ask(self.scene.operator.program()))["primary"]
        return f"node {primary} is the primary" if primary == self.node else ""


class DaemonRestarted(Fault):
    """A daemon is ended in order, and started again by the init system."""

    kind = "daemon-restarted"
    loses = "nothing"

    async def begin(self) -> None:
        """See `Fault`."""
        self._starts = self.scene.keepers[self.node].starts
        os.kill(self.scene.pid(self.node, "daemon"), signal.SIGTERM)

    async def effect(self) -> str:
        """See `Fault`."""
        starts = await self.scene.keepers[self.node].started(self._starts)
        return f"the daemon of node {self.node} was started for the {starts}. time" if starts > self._starts else ""
