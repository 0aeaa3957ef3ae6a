"""The question to a peer: where do you stand?"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from agent.kernel.packet import ACK, SegmentSender
from agent.network.connections import Expected

_OLD_BYTE: Final = b"\0"


def probe(sender: SegmentSender, expected: Expected) -> None:
    """Send the peer one byte that it has acknowledged long ago; it answers with the next byte that it expects, the next
    one that it will send, and the last timestamp that it has seen.

    The kernel's own probe carries no data, and a peer answers such segments only once in 500 ms
    (tcp_invalid_ratelimit); it may just have done so. The timestamp is that of the record: the peer takes it for a
    repetition, and does not take it over if it has seen a younger one.
    """
    local, local_port, peer, peer_port = expected.connection
    sender.send(
        ip_address(local),
        local_port,
        ip_address(peer),
        peer_port,
        sequence=(expected.unacknowledged - 1) & 0xFFFFFFFF,
        ack=expected.receive_next,
        flags=ACK,
        clock=expected.clock,
        data=_OLD_BYTE,
    )
