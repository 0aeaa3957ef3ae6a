"""The policy under which a stop lends real-time priority to threads of the program, and its end after an agent's death.

SCHED_RR with SCHED_RESET_ON_FORK at the lowest priority: a thread that has it has it from an agent, as far as can be
told; programs of their own accord take SCHED_FIFO, or let their children inherit. The spawner's helper imports this:
the standard library only.
"""

from __future__ import annotations

import os
from typing import Final

from agent.kernel import procfs

LENT_POLICY: Final = os.SCHED_RR
LENT_PRIORITY: Final = 1
_LENT: Final = LENT_POLICY | os.SCHED_RESET_ON_FORK


def end_lent_priority(pid: int) -> int:
    """Put the threads of a process that have kept it back under the ordinary policy, at the nice value that they have;
    gives how many. Raises TraceeGone when the process is gone."""
    ended = 0
    for tid in procfs.tasks(pid):
        try:
            if os.sched_getscheduler(tid) != _LENT or os.sched_getparam(tid).sched_priority != LENT_PRIORITY:
                continue
            os.sched_setscheduler(tid, os.SCHED_OTHER, os.sched_param(0))
            # Real-time threads have no timer slack; 0 stands for that of the process.
            with open(f"/proc/{tid}/timerslack_ns", "wb", buffering=0) as slack:
                slack.write(b"0")
            ended += 1
        except OSError:  # the thread has ended
            continue
    return ended
