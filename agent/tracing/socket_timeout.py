"""The timeouts of a socket that another process holds (SO_RCVTIMEO and SO_SNDTIMEO, socket(7))."""

from __future__ import annotations

import os
import socket
import struct

from agent.kernel import pidfd as pidfds

_TIMEVAL = struct.Struct("<qq")


def socket_timeout(pidfd: int, descriptor: int, receiving: bool) -> float | None:
    """How long a call on `descriptor` of the process may block, in seconds; None: for ever, or it is no socket.

    Holds a duplicate of the socket for the moment of the call: only while the program stands still.
    """
    duplicate = pidfds.try_descriptor(pidfd, descriptor)
    if duplicate < 0:
        return None
    try:
        with socket.socket(fileno=duplicate) as held:
            option = socket.SO_RCVTIMEO if receiving else socket.SO_SNDTIMEO
            seconds, microseconds = _TIMEVAL.unpack(held.getsockopt(socket.SOL_SOCKET, option, _TIMEVAL.size))
    except OSError:
        # No socket: Python has not taken the duplicate over.
        os.close(duplicate)
        return None
    return seconds + microseconds * 1e-6 or None
