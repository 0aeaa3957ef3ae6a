"""What a process does with a signal, set past the C library (rt_sigaction(2)).

The library keeps 32 and 33 for its threads and refuses to touch them, but whoever started the agent may have them
ignored, and what is ignored survives execve(2).
"""

from __future__ import annotations

import ctypes

from agent.kernel.libc import NR, call

_ACTION_BYTES = 32
_SIGSET_BYTES = 8
_default = ctypes.create_string_buffer(_ACTION_BYTES)


def set_default(number: int) -> None:
    """Give signal `number` its default action in this process. Raises KernelError."""
    call(
        NR.RT_SIGACTION,
        number,
        ctypes.addressof(_default),
        0,
        _SIGSET_BYTES,
        operation="rt_sigaction",
        target=f"signal {number}",
    )
