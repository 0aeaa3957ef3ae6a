"""userfaultfd in asynchronous write-protect mode: the kernel marks what a program writes, and never blocks it.

ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst; WP_ASYNC since Linux 6.7. A userfaultfd belongs to
the memory of the process that created it, so it is created inside the program, taken from there and closed there.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

import numpy as np

from agent.errors import KernelError, Unsupported
from agent.kernel.libc import NR, attempt_held, check
from agent.kernel.pidfd import get_descriptor

_API: Final = 0xAA
_IOC_API: Final = 3 << 30 | 24 << 16 | _API << 8 | 0x3F
_IOC_REGISTER: Final = 3 << 30 | 32 << 16 | _API << 8 | 0x00
_FEATURES: Final = 1 << 0 | 1 << 12 | 1 << 13 | 1 << 15
"""PAGEFAULT_FLAG_WP, WP_HUGETLBFS_SHMEM, WP_UNPOPULATED, WP_ASYNC."""
_MODE_WP: Final = 2
_USER_MODE_ONLY: Final = 1
CREATE_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY
"""USER_MODE_ONLY: an unprivileged program may not create another kind; the kernel's own writes are seen all the same.
"""

EPERM, ENOENT, EBUSY, EINVAL, ENOMEM = 1, 2, 16, 22, 12


class Call(Protocol):
    """A system call made inside the program; gives a negative errno on failure."""

    def __call__(self, number: int, *arguments: int) -> int: ...


class Userfaultfd:
    """Write tracking of one program's memory, from the agent. Closing it ends all tracking."""

    def __init__(self, descriptor: int) -> None:
        """Take over a new userfaultfd, which is closed here when it can't do what is needed (Unsupported)."""
        self._descriptor = descriptor
        self._request = np.zeros(4, np.uint64)
        self._address = int(self._request.ctypes.data)
        self._request[:3] = (_API, _FEATURES, 0)
        result = attempt_held(NR.IOCTL, descriptor, _IOC_API, self._address)
        if result < 0:
            os.close(descriptor)
            raise Unsupported(
                "this kernel's userfaultfd has no asynchronous write protection", hint="Linux 6.7 or newer is needed"
            )

    @classmethod
    def inside(cls, call: Call, pidfd: int) -> Userfaultfd:
        """Create one in the program by `call`, take it by pidfd_getfd(2), close it in the program.

        Raises KernelError (EMFILE: the program's descriptor table is full; EPERM), Unsupported.
        """
        number = check(call(NR.USERFAULTFD, CREATE_FLAGS), "userfaultfd", "the program")
        try:
            descriptor = get_descriptor(pidfd, number)
        finally:
            call(NR.CLOSE, number)
        return cls(descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def register(self, start: int, end: int) -> None:
        """Track writes to [start, end); tracked parts stay as they are.

        Raises KernelError: EPERM (shared and never writable), EBUSY (the program's own userfaultfd has it), EINVAL
        (the kernel's own pages, or nothing mapped there), ENOMEM (the process is about to end).
        """
        self._request[:] = (start, end - start, _MODE_WP, 0)
        result = attempt_held(NR.IOCTL, self._descriptor, _IOC_REGISTER, self._address)
        if result < 0:
            raise KernelError("userfaultfd registration", f"memory from {start:#x} to {end:#x}", -result)
