"""What a killed agent has left in its program is put right: by its helper at once, by its successor for certain.

The helper imports this: the standard library only.
"""

from __future__ import annotations

from agent.kernel.lent_policy import end_lent_priority
from agent.kernel.repair_mode import LeftBehind, end_repair_mode


def mend(pid: int, *, all_of_them: bool) -> str:
    """Take a running program's connections out of repair mode, and lent priority from its threads; gives what was to be
    done for connections in words, "" for nothing.

    all_of_them: see `end_repair_mode`. Raises KernelError and TraceeGone when the process is gone.
    """
    left = end_repair_mode(pid, all_of_them=all_of_them)
    end_lent_priority(pid)
    if left == LeftBehind():
        return ""
    return f"connections that a killed agent was reading: {left.going_on} go on, {left.reset} are reset"
