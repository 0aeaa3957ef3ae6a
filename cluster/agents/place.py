"""Where the things of one instance are on this node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.config import NodeConfig, host_and_port
from cluster.registry.values import ProgramId


@dataclass(frozen=True, slots=True)
class Place:
    """Paths of one program's instance."""

    config: NodeConfig
    program: ProgramId

    @property
    def instance(self) -> str:
        """Its id."""
        return f"{self.program}@{self.config.node.id}"

    @property
    def directory(self) -> Path:
        """What outlives a boot."""
        return Path(self.config.node.data) / "programs" / self.program

    @property
    def record(self) -> Path:
        """The instance's record."""
        return self.directory / "record"

    @property
    def agent_directory(self) -> Path:
        """The agent's own."""
        return self.directory / "agent"

    @property
    def agent_log(self) -> Path:
        """What the agents say."""
        return self.directory / "agent.log"

    @property
    def output(self) -> Path:
        """What the program writes: beside the agent's directory, where `agent.launch.launching` puts it."""
        return self.directory / f"{self.program}.log"

    @property
    def control(self) -> Path:
        """The agent's control socket."""
        return Path(self.config.node.run) / f"{self.program}.sock"

    @property
    def track(self) -> Path:
        """Where keepalived looks whether this node may have the address: beside the control socket, as the agent
        expects it, and gone after a boot."""
        return self.control.with_suffix(".track")

    @property
    def cgroup(self) -> str:
        """The program's own cgroup. Nodes of several clusters may share a machine, in tests at least."""
        return f"kagemusha/{self.config.cluster.id}-{self.config.node.id}/{self.program}"

    def stream(self, port: int) -> str:
        """Where mirrors subscribe to an agent that listens on `port`, `host:port`."""
        host = host_and_port(self.config.own.address)[0]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def make(self) -> None:
        """Make the directories."""
        self.agent_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        Path(self.config.node.run).mkdir(mode=0o755, parents=True, exist_ok=True)


def places(config: NodeConfig) -> list[Place]:
    """The places of all programs that this node has a record of."""
    root = Path(config.node.data) / "programs"
    return [Place(config, path.parent.name) for path in sorted(root.glob("*/record"))]
