"""Every segment that a node sends under the program's address, as it leaves the node: before any partition drops it."""

from __future__ import annotations

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
from tests.segments import ETH_P_ALL, from_address, has_data, keep_only

_OUTGOING = 4
_TIMESTAMP_NS = 35  # asm-generic/socket.h: SO_TIMESTAMPNS
_KEEP_BYTES = 96
_TARGET_AT = 30


class Wire:
    """Listens in a thread of its own, on the bridge's end of every node's cable."""

    def __init__(self, bridge: NetworkNamespace, nodes: tuple[str, ...]) -> None:
        with open(bridge.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
            # Of all kinds: who listens to one kind comes after the bridge, which has taken the frame by then.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._ports = {f"to-{name}": name for name in nodes}
        keep_only(self._socket, from_address(ADDRESS, _KEEP_BYTES))
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
                frame, ancillary, _, origin = self._socket.recvmsg(_KEEP_BYTES, 64)
                node = self._ports.get(origin[0])
                if node is not None and origin[2] != _OUTGOING and len(ancillary) == 1:
                    seconds, ns = struct.unpack("qq", ancillary[0][2])
                    self._note(Sign(seconds * 1_000_000_000 + ns, node), frame)

    def _note(self, sign: Sign, frame: bytes) -> None:
        self._signs.append(sign)
        if has_data(frame):
            self._to.setdefault(str(ip_address(frame[_TARGET_AT : _TARGET_AT + 4])), []).append(sign)
