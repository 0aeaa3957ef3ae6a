"""A node on a bad wire: what it sends and gets is late, out of order, doubled, or damaged."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import ClassVar

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import ADDRESS, CHECKOUT
from tests.chaos.bad_wire import Wire
from tests.chaos.faults.fault import Fault

_ANSWER_S = 10.0


class _OnWire(Fault):
    """Between the node's port and the bridge is a wire of our own."""

    wire: ClassVar[Wire]

    async def begin(self) -> None:
        """See `Fault`."""
        self._line, self._plug = f"line-{self.node}", f"plug-{self.node}"
        ip = self.scene.bridge.ip
        await asyncio.to_thread(
            ip, f"link add {self._line} type veth peer name {self._plug}", f"link set {self._line} up"
        )
        seed = str(self.chance.randrange(1 << 30))
        self._relay = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net={self.scene.bridge.path}", "--", sys.executable, "-m", "tests.chaos.relay"),
            *(self.port, self._line, json.dumps(asdict(self.wire)), seed),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            start_new_session=True,
        )
        await self._said()
        await asyncio.to_thread(
            ip, f"link set {self.port} nomaster", f"link set {self._plug} master br0", f"link set {self._plug} up"
        )

    async def _said(self) -> str:
        if self._relay.stdout is None:
            raise DemoError("the wire does not answer")
        return (await asyncio.wait_for(self._relay.stdout.readline(), _ANSWER_S)).decode()

    async def effect(self) -> str:
        """See `Fault`."""
        if self._relay.stdin is None:
            return ""
        self._relay.stdin.write(b"count\n")
        counts = json.loads(await self._said())
        return f"{counts['changed']} of {counts['carried']} frames of node {self.node}" if counts["changed"] else ""

    async def heal(self) -> None:
        """See `Fault`."""
        await asyncio.to_thread(self.scene.bridge.ip, f"link set {self.port} master br0")
        if self._relay.stdin is not None:
            self._relay.stdin.close()
        await asyncio.wait_for(self._relay.wait(), _ANSWER_S)
        await asyncio.to_thread(self.scene.bridge.ip, f"link del {self._line}")


class Late(_OnWire):
    """Everything is 30 ms late, in both directions."""

    kind = "late"
    wire = Wire(delay_ms=30.0)


class Reordered(_OnWire):
    """Frames overtake each other within 20 ms."""

    kind = "reordered"
    wire = Wire(jitter_ms=20.0)


class Duplicated(_OnWire):
    """Each third frame arrives twice."""

    kind = "duplicated"
    wire = Wire(duplicated=0.33)


class Corrupted(_OnWire):
    """One bit is wrong in each fiftieth TCP segment between nodes, and no checksum of the network's notices."""

    kind = "corrupted"
    wire = Wire(corrupted=0.02, spared=ADDRESS)
