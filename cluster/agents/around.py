"""What all instances of a node share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from cluster.agents.ports import StreamPorts
from cluster.config import NodeConfig
from cluster.fencing.guard import Guard
from cluster.metrics.tally import Tally
from cluster.node.program import ReadProgramFile
from cluster.registry.values import ProgramId

log = structlog.get_logger()


def none_agreed(_: ProgramId) -> int:
    """Of a node without a registry."""
    return 0


@dataclass(frozen=True, slots=True)
class Around:
    """command: starts an agent. changed: the state of an instance is another. ask_lease: ask the leader now.
    ports: where agents listen. tally: counts for the node's metrics. agreed_incarnation: that of a program's agent
    here, as far as this node knows the registry; 0 before the first one."""

    config: NodeConfig
    command: Sequence[str]
    guard: Guard
    read_program: ReadProgramFile
    changed: Callable[[], None]
    ask_lease: Callable[[ProgramId, int], None]
    ports: StreamPorts
    tally: Tally = field(default_factory=Tally)
    agreed_incarnation: Callable[[ProgramId], int] = none_agreed

    def agent_lost(self, program: ProgramId) -> None:
        """An agent is gone, and nobody told it to go."""
        log.warning("an agent is gone", instance=f"{program}@{self.config.node.id}")
        self.tally.count("kagemusha_agent_losses_total", program)

    @property
    def order_s(self) -> float:
        """How long an agent may take for what it is ordered."""
        return self.config.times.request_ms / 1000

    @property
    def leash_ms(self) -> int:
        """How long an agent waits for a daemon that is gone before it holds the program.

        A quarter of a lease: on a busy machine the lease may be half over when the daemon ends, and a mirror must have
        the last checkpoint before it is.
        """
        return self.config.times.lease_ms // 4

    @property
    def last_checkpoint_ms(self) -> int:
        """So long before the end of a lease that nobody prolongs an agent holds the program, for the same reason."""
        return self.config.times.lease_ms // 2
