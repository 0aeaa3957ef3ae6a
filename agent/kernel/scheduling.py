"""What keeps the tracer prompt: real-time priority, locked memory, chosen CPUs (sched(7), mlockall(2))."""

from __future__ import annotations

import os

from agent.errors import KernelError
from agent.kernel.libc import NR, call

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
PR_SET_TIMERSLACK = 29
PROMPT_NICE = -10
"""Against one ordinary thread it gets nine tenths of a CPU."""


def be_realtime(priority: int = 1) -> None:
    """Put this thread, and none of its children, under SCHED_FIFO. KernelError EPERM without CAP_SYS_NICE.

    A real-time thread that spins starves whatever it waits for: sleep in the kernel instead.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        hint = "give the agent CAP_SYS_NICE, or RLIMIT_RTPRIO"
        raise KernelError("sched_setscheduler SCHED_FIFO", "the tracer thread", error.errno or 0, hint=hint) from error


def be_ordinary() -> None:
    """Put this thread back under the ordinary scheduler. One that never left it needs no privilege for that."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def be_prompt() -> None:
    """Let this thread, and none of its children, go before ordinary ones (nice(1)). KernelError without CAP_SYS_NICE.

    For what others wait for, and what is done soon: leases to be renewed, an agent to be there again.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PROMPT_NICE)
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    except OSError as error:
        hint = "give it CAP_SYS_NICE, or RLIMIT_NICE"
        raise KernelError("setpriority", "this thread", error.errno or 0, hint=hint) from error


def end_promptness() -> None:
    """Undo `be_prompt`."""
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    be_ordinary()


def lock_memory(*, future: bool = False) -> None:
    """Keep the pages that this process has touched (and, `future`, will touch) in memory. KernelError ENOMEM, EPERM."""
    flags = MCL_CURRENT | (MCL_FUTURE | MCL_ONFAULT if future else 0)
    call(NR.MLOCKALL, flags, operation="mlockall", target="this process", hint="raise RLIMIT_MEMLOCK of the agent")


def lock_range(address: int, length: int) -> None:
    """Keep one range of this process's memory in memory (mlock(2))."""
    call(NR.MLOCK, address, length, operation="mlock", target=f"{length} bytes")


def run_on(cpus: set[int]) -> None:
    """Let this thread run on `cpus` only."""
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise KernelError("sched_setaffinity", f"CPUs {sorted(cpus)}", error.errno or 0) from error


def wake_exactly() -> None:
    """Let timers of this thread fire without the usual slack of 50 microseconds (prctl(2), PR_SET_TIMERSLACK)."""
    call(NR.PRCTL, PR_SET_TIMERSLACK, 1, operation="prctl PR_SET_TIMERSLACK", target="this thread")
