"""What the program says to a client's machine, as it arrives there: when, and which node said it.

Nobody reads while a run lasts: the kernel stamps frames and keeps them (packet(7), SO_TIMESTAMPNS), and nothing is
taken from those who are measured.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Final

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import INTERFACE, Machine
from kagemusha.demo.story import PORT
from tests.partitions.judge import Sign
from tests.segments import ETH_P_IP, from_port, has_data, keep_only, opens

_SNAP_BYTES: Final = 96
_BUFFER_BYTES: Final = 128 << 20
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_TIMESPEC: Final = struct.Struct("@qq")


class Tap:
    """Listens on a machine. Deaf until `listen`."""

    def __init__(self, machine: Machine) -> None:
        with machine.network.path.open("rb") as namespace, in_network_namespace(namespace.fileno()):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._filter(0)
        self._socket.bind((INTERFACE, ETH_P_IP))

    def listen(self) -> None:
        """Forget what was heard, and hear from now on."""
        self._filter(0)
        self._drain()
        self._statistics()
        self._filter(_SNAP_BYTES)

    def heard(self, nodes: Mapping[str, str]) -> list[Sign]:
        """Hear no more; gives all frames with which somebody served: with data in it, or accepting a connection.

        nodes: their names by their hardware addresses. Raises DemoError when there was more than could be kept.
        """
        self._filter(0)
        frames = self._drain()
        if dropped := self._statistics():
            raise DemoError(f"{dropped} frames were not kept", hint="let clients write less")
        return [Sign(at_ns, nodes.get(frame[6:12].hex(":"), "?")) for at_ns, frame in frames if _serves(frame)]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _filter(self, keep_bytes: int) -> None:
        keep_only(self._socket, from_port(PORT, keep_bytes))

    def _drain(self) -> list[tuple[int, bytes]]:
        """All that was kept: when (CLOCK_REALTIME in ns), and the frame."""
        found: list[tuple[int, bytes]] = []
        while True:
            try:
                frame, said, _, _ = self._socket.recvmsg(_SNAP_BYTES, socket.CMSG_SPACE(_TIMESPEC.size))
            except BlockingIOError:
                return found
            seconds, rest_ns = _TIMESPEC.unpack(said[0][2])
            found.append((seconds * 1_000_000_000 + rest_ns, frame))

    def _statistics(self) -> int:
        """How many frames were dropped since this was asked before."""
        _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(dropped)


def _serves(frame: bytes) -> bool:
    """Whether it carries data, or accepts a connection; an acknowledgement alone serves nobody."""
    return has_data(frame) or opens(frame)
