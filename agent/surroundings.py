"""What an instance is given by the agent's process around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.launch.spawner import Spawner
from agent.program import Definition
from agent.scout.scout import Scout
from agent.tracing.tracer import Tracer
from transport.control import Event
from transport.tls import Tls


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an instance is given. emit: sends an event to the controllers. track: see `ServiceNetwork`. after: the
    incarnation that it is to be above."""

    definition: Definition
    node: str
    directory: Path
    tls: Tls
    spawner: Spawner
    scout: Scout
    tracer: Tracer
    emit: Callable[[Event], None]
    track: Path
    after: int
