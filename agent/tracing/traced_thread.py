"""One thread of a traced program: what its tracer knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where a thread stands, from its tracer's point of view."""

    RUNNING = "running"
    STOPPED = "stopped"  # By us.
    GROUP_STOPPED = "stopped by a signal to the whole program, and by us"
    LISTENING = "stopped by a signal to the whole program, and waiting for SIGCONT"
    LEAVING = "ending by itself"
    HELD = "struck by a fatal signal, and held on its way out"


MOVING = frozenset({State.RUNNING, State.LISTENING, State.LEAVING})


@dataclass(slots=True)
class TracedThread:
    """tid: host tid. number: its id in the program's own PID namespace, once somebody has asked for it."""

    tid: int
    state: State = State.RUNNING
    number: int | None = None
