"""Promises that are broken on purpose, on real nodes: what no witness must miss. No plan has these by itself."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from typing import Final

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import ADDRESS, INTERFACE
from kagemusha.demo.story import PORT
from tests.chaos.faults.fault import Fault
from tests.chaos.faults.partitions import Isolated

_EVERY_S: Final = 0.05
_ASK: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as connection:
    connection.sendall(b"*2\\r\\n$4\\r\\nRPOP\\r\\n$8\\r\\nclient-0\\r\\n")
    sys.stdout.write(connection.recv(64).decode())
"""
"""Arguments: host and port."""
_WAIT: Final = "import sys; sys.stdin.read()"


class WriteStolen(Fault):
    """Somebody takes the newest entry of a list. The program has lost a write (I5)."""

    kind = "write-stolen"
    targets = ("primary",)
    loses = "nothing"

    async def begin(self) -> None:
        """See `Fault`."""
        words = self.scene.machines.client.command(sys.executable, "-I", "-S", "-c", _ASK, ADDRESS, str(PORT))
        said = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
        self._taken = said.stdout.split()

    async def effect(self) -> str:
        """See `Fault`."""
        return f"write {self._taken[-1]} of client-0 is taken" if len(self._taken) > 1 else ""


class OrphanLeft(Fault):
    """A process that looks as an agent does, and that nobody ends (I13)."""

    kind = "orphan-left"
    targets = ("mirror",)
    loses = "nothing"

    async def begin(self) -> None:
        """See `Fault`."""
        node = self.scene.nodes[self.node]
        words = node.command(sys.executable, "-I", "-S", "-c", _WAIT, "kagemusha", "agent")
        self._orphan = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )

    async def effect(self) -> str:
        """See `Fault`."""
        return f"process {self._orphan.pid} is there" if self._orphan.returncode is None else ""


class ServesOn(Isolated):
    """A primary that is isolated goes on to send data from the program's address, whoever serves meanwhile (I1, I3)."""

    targets = ("primary",)

    async def begin(self) -> None:
        """See `Fault`."""
        await super().begin()
        self._task = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        node, client = self.scene.nodes[self.node], self.scene.machines.client.address
        while True:
            with open(node.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
                    link.bind((INTERFACE, 0))
                    link.send(answer(link.getsockname()[4], ADDRESS, client))
            await asyncio.sleep(_EVERY_S)

    async def heal(self) -> None:
        """See `Fault`."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await super().heal()


def answer(hardware: bytes, source: str, target: str) -> bytes:
    """An Ethernet frame to all with a segment of five bytes from an IPv4 address (RFC 791, RFC 9293). No checksum is
    right: nobody but who looks is to take it."""
    data = b"+OK\r\n"
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses
    tcp = struct.pack("!HHIIBBHHH", PORT, PORT, 1, 1, 5 << 4, 0x18, 1024, 0, 0)
    return b"\xff" * 6 + hardware[:6] + struct.pack("!H", 0x0800) + ip + tcp + data


SABOTAGE: Final = {fault.kind: fault for fault in (WriteStolen, OrphanLeft, ServesOn)}
FOUND_BY: Final = {
    "a write is taken out of the program": "I5",
    "a process is left over on a node": "I13",
    "two nodes answer at once": "I1",
    "a node that is isolated goes on to answer": "I3",
}
"""What is done by them, and the invariant that it breaks."""
