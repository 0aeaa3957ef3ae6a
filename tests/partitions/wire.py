"""Every segment that a node sends under the program's address, as it leaves the node: before any partition drops it."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import threading
from bisect import bisect_right
from ipaddress import ip_address

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.namespace import NetworkNamespace
from kagemusha.demo.nodes import ADDRESS
from tests.partitions.judge import Sign

# Of all kinds: who listens to one kind comes after the bridge, which has taken the frame by then.
_ETH_P_ALL, _ETH_P_IP = 0x0003, 0x0800
_OUTGOING = 4
_ATTACH_FILTER, _TIMESTAMP_NS = 26, 35  # asm-generic/socket.h: SO_ATTACH_FILTER, SO_TIMESTAMPNS
_SOURCE_AT, _TARGET_AT = 26, 30
# Classic BPF (linux/filter.h): TCP over IPv4 from the address, and of that the first 96 bytes.
_FILTER = (
    (0x28, 0, 0, 12),
    (0x15, 0, 5, _ETH_P_IP),
    (0x30, 0, 0, 23),
    (0x15, 0, 3, socket.IPPROTO_TCP),
    (0x20, 0, 0, _SOURCE_AT),
    (0x15, 0, 1, int(ip_address(ADDRESS))),
    (0x06, 0, 0, 96),
    (0x06, 0, 0, 0),
)


class Wire:
    """Listens in a thread of its own, on the bridge's end of every node's cable."""

    def __init__(self, bridge: NetworkNamespace, nodes: tuple[str, ...]) -> None:
        with open(bridge.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self._ports = {f"to-{name}": name for name in nodes}
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in _FILTER))
        program = struct.pack("HxxxxxxQ", len(_FILTER), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP_NS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._signs: list[Sign] = []
        self._to: dict[str, list[Sign]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def since(self, at_ns: int) -> list[Sign]:
        """What was sent since then (CLOCK_REALTIME), to whomever, be it only an acknowledgement."""
        signs = self._signs
        return signs[bisect_right(signs, at_ns, key=lambda one: one.at_ns) :]

    def sender(self, client: str, at_ns: int) -> str:
        """The node that sent something with content to this address last, as of then; "" for nobody."""
        signs = self._to.get(client, [])
        index = bisect_right(signs, at_ns, key=lambda one: one.at_ns)
        return signs[index - 1].node if index else ""

    def forget(self, before_ns: int) -> None:
        """What was before then is of no interest any more."""
        for signs in (self._signs, *self._to.values()):
            del signs[: bisect_right(signs, before_ns, key=lambda one: one.at_ns)]

    def close(self) -> None:
        """Listen no more."""
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            if select.select([self._socket], [], [], 0.05)[0]:
                frame, ancillary, _, origin = self._socket.recvmsg(96, 64)
                node = self._ports.get(origin[0])
                if node is not None and origin[2] != _OUTGOING and len(ancillary) == 1:
                    seconds, ns = struct.unpack("qq", ancillary[0][2])
                    self._note(Sign(seconds * 1_000_000_000 + ns, node), frame)

    def _note(self, sign: Sign, frame: bytes) -> None:
        self._signs.append(sign)
        end = 14 + int.from_bytes(frame[16:18], "big")
        at = 14 + (frame[14] & 15) * 4
        if end > at + (frame[at + 12] >> 4) * 4:
            self._to.setdefault(str(ip_address(frame[_TARGET_AT : _TARGET_AT + 4])), []).append(sign)
