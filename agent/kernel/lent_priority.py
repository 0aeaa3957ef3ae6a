"""Real-time priority, lent for a moment to threads of the program that a stop waits for (sched_setattr(2)).

A thread can only stop itself, so it must get a processor first. On a busy machine it waits for one behind others for
one or two of their slices, some milliseconds, while the rest of the program stands still already. With the priority it
comes next, and stops before it has executed an instruction of its own.

If the agent is killed within those microseconds the thread keeps the priority, until the agent's helper or its
successor takes it back (`agent.kernel.lent_policy`).
"""

from __future__ import annotations

import os
import struct
from typing import Final

import numpy as np

from agent.kernel.lent_policy import LENT_POLICY, LENT_PRIORITY
from agent.kernel.libc import NR, attempt_held

_ATTRIBUTES: Final = struct.Struct("<IIQiIQQQII")
"""struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, clamps of utilization."""
_RESET_ON_FORK: Final = 1
_POLICY, _RUNTIME = 1, 5
_ORDINARY: Final = frozenset({os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE})
_SLACK: Final = "/proc/{}/timerslack_ns"

# One thread at a time uses it; the interpreter lock, held over every call, guards the rest.
_buffer = np.zeros(_ATTRIBUTES.size, np.uint8)
_view, _at = _buffer.data, int(_buffer.ctypes.data)

_Attributes = tuple[int, ...]


class LentPriority:
    """Who has it now, and what each had before."""

    def __init__(self) -> None:
        self._had: dict[int, tuple[_Attributes, bytes]] = {}
        own = _get(0)
        # An ordinary thread is told to have a slice even if it has the system's: given back, it would be its own.
        self._usual_slice_ns = own[_RUNTIME] if own is not None else 0

    def lend(self, tid: int) -> None:
        """Give it to a thread; nothing happens to one that is gone, or has real-time priority, or may not have it."""
        if tid in self._had:
            return
        before = _get(tid)
        if before is None or before[_POLICY] not in _ORDINARY:
            return
        slack = _read_slack(tid)
        if _set(tid, (_ATTRIBUTES.size, LENT_POLICY, _RESET_ON_FORK, 0, LENT_PRIORITY, 0, 0, 0, 0, 0)):
            self._had[tid] = before, slack

    def take_back(self, tid: int | None = None) -> None:
        """Put one thread, or all, back to what they had before."""
        for one in (tid,) if tid is not None else tuple(self._had):
            had = self._had.pop(one, None)
            if had is not None:
                before, slack = had
                if before[_RUNTIME] == self._usual_slice_ns:
                    before = (*before[:_RUNTIME], 0, *before[_RUNTIME + 1 :])
                _set(one, before)
                _write_slack(one, slack)


def _get(tid: int) -> _Attributes | None:
    result = attempt_held(NR.SCHED_GETATTR, tid, _at, _ATTRIBUTES.size, 0)
    return _ATTRIBUTES.unpack_from(_view) if result >= 0 else None


def _set(tid: int, attributes: _Attributes) -> bool:
    _ATTRIBUTES.pack_into(_view, 0, *attributes)
    return attempt_held(NR.SCHED_SETATTR, tid, _at, 0) >= 0


def _read_slack(tid: int) -> bytes:
    """Real-time threads have no timer slack, and what a thread had is not given back to it by the kernel."""
    try:
        with open(_SLACK.format(tid), "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def _write_slack(tid: int, slack: bytes) -> None:
    try:
        with open(_SLACK.format(tid), "wb", buffering=0) as file:
            file.write(slack)
    except OSError:  # the thread is gone
        pass
