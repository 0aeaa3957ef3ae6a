"""The registers of all threads at a stop, in arrays that are allocated once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.errors import KernelError
from agent.kernel import ptrace, registers

_EINVAL = 22


class RegisterBlock:
    """Reads n stopped threads in bulk; row i belongs to the i-th tid of the last `read`.

    registers: uint64[n, 27] (indices in `agent.kernel.registers`). xstate: uint8[n, m], m being the machine's size,
    known after the first read. masks: uint64[n], the blocked signals. All are views into buffers that the next `read`
    overwrites.
    """

    def __init__(self, capacity: int = 16) -> None:
        self._xstate_bytes = 0
        self._capacity = 0
        self.count = 0
        self._grow(capacity)

    def _grow(self, capacity: int) -> None:
        self._capacity = capacity
        self._registers = np.zeros((capacity, registers.COUNT), np.uint64)
        self._masks = np.zeros(capacity, np.uint64)
        self._xstate = np.zeros((capacity, self._xstate_bytes), np.uint8)
        # Two iovecs for each thread. The kernel puts the size of the register set into their lengths: the same again.
        self._iovecs = (ctypes.c_uint64 * (4 * capacity))()
        base = ctypes.addressof(self._iovecs)
        general, extended, masks = self._registers.ctypes.data, self._xstate.ctypes.data, self._masks.ctypes.data
        self._rows = []
        for row in range(capacity):
            self._iovecs[4 * row] = general + row * registers.BYTES
            self._iovecs[4 * row + 1] = registers.BYTES
            self._iovecs[4 * row + 2] = extended + row * self._xstate_bytes
            self._iovecs[4 * row + 3] = self._xstate_bytes
            self._rows.append((base + 32 * row, base + 32 * row + 16, masks + 8 * row))

    @property
    def registers(self) -> NDArray[np.uint64]:
        return self._registers[: self.count]

    @property
    def xstate(self) -> NDArray[np.uint8]:
        return self._xstate[: self.count]

    @property
    def masks(self) -> NDArray[np.uint64]:
        return self._masks[: self.count]

    def read(self, tids: Sequence[int]) -> None:
        """Read registers, extended state and signal mask of the stopped threads `tids`; raises TraceeGone,
        KernelError."""
        if tids and not self._xstate_bytes:
            self._xstate_bytes = len(ptrace.get_xstate(tids[0]))
            self._grow(max(self._capacity, len(tids)))
        if len(tids) > self._capacity:
            self._grow(2 * len(tids))
        raw = ptrace.raw
        for tid, (general, extended, mask) in zip(tids, self._rows, strict=False):
            if (
                raw(ptrace.GETREGSET, tid, registers.NT_PRSTATUS, general) == -1
                or raw(ptrace.GETREGSET, tid, registers.NT_X86_XSTATE, extended) == -1
            ):
                raise ptrace.failure(ptrace.GETREGSET, tid)
            if raw(ptrace.GETSIGMASK, tid, ptrace.SIGMASK_BYTES, mask) == -1:
                raise ptrace.failure(ptrace.GETSIGMASK, tid)
        self.count = len(tids)
        lengths = set(self._iovecs[1 : 4 * self.count : 2])
        if lengths - {registers.BYTES, self._xstate_bytes}:
            self._grow(self._capacity)
            raise KernelError(
                "ptrace GETREGSET", "a 32-bit thread", _EINVAL, hint="only 64-bit programs can be mirrored"
            )
