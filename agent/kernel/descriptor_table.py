"""Room in this process's own table of descriptors, before it is needed.

A table that threads share grows only after an RCU grace period (kernel, fs/file.c): the descriptor which no longer fits
costs 8 to 15 ms, in the middle of a takeover if it is the duplicate of a program's socket. It never shrinks.
"""

from __future__ import annotations

import fcntl
import os
import resource


def make_room(count: int) -> int:
    """Let the table have room for `count` descriptors, or as many as RLIMIT_NOFILE allows; gives how many that are."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = count if limit == resource.RLIM_INFINITY else min(count, limit)
    with open(os.devnull, "rb") as any_file:
        os.close(fcntl.fcntl(any_file.fileno(), fcntl.F_DUPFD_CLOEXEC, count - 1))
    return count
