"""What all instances of a node share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.agents.ports import StreamPorts
from cluster.config import NodeConfig
from cluster.fencing.guard import Guard
from cluster.node.program import ReadProgramFile
from cluster.registry.values import ProgramId


@dataclass(frozen=True, slots=True)
class Around:
    """command: starts an agent. changed: the state of an instance is another. ask_lease: ask the leader now.
    ports: where agents listen."""

    config: NodeConfig
    command: Sequence[str]
    guard: Guard
    read_program: ReadProgramFile
    changed: Callable[[], None]
    ask_lease: Callable[[ProgramId, int], None]
    ports: StreamPorts

    @property
    def order_s(self) -> float:
        """How long an agent may take for what it is ordered."""
        return self.config.times.request_ms / 1000

    @property
    def leash_ms(self) -> int:
        """How long an agent waits for a daemon that is gone before it holds the program.

        Half a lease: of the other half so much is left that a mirror has the last checkpoint before the lease ends.
        """
        return self.config.times.lease_ms // 2
