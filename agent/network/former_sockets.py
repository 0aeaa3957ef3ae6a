"""What is left on a node of connections that a program had when it served here before.

A program that is frozen and killed takes no leave: its connections close, and as the address is gone by then, the
kernel keeps them for minutes to say farewell (tcp(7), tcp_orphan_retries). If the program comes back to this node
meanwhile, they are in the way of the very connections that have gone on elsewhere: these can't be made again
(EADDRNOTAVAIL), and what their clients send finds a socket that answers nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import numpy as np

from agent.kernel.packet import Address
from agent.kernel.sock_diag import LISTEN, Row, SocketDiagnosis


def end_former_sockets(diagnosis: SocketDiagnosis, addresses: Sequence[Address]) -> int:
    """Abort every connection of these addresses, none of which may be on this node; gives how many there were.

    The barrier must be up: IPv6 sends resets from an address that is not here, too. Raises KernelError.
    """
    ended = 0
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        here = [np.frombuffer(one.packed.ljust(16, b"\0"), np.uint8) for one in addresses if one.version == version]
        if not here:
            continue
        table = diagnosis.tcp(family)
        former = np.any([(table["local"] == one).all(axis=1) for one in here], axis=0) & (table["state"] != LISTEN)
        ended += sum(diagnosis.abort(Row.read(row.tobytes())) for row in table[former & (table["peer_port"] != 0)])
    return ended
