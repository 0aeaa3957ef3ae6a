"""What a node is: the model of node.toml, the same file on every node but for `[node] id`. Values only.

Times are checked against each other: a set of them with which two primaries could serve is refused at the start.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator

from cluster.leader.lease import LeaseTimes
from transport.settings import Misfit, Section
from transport.settings_file import SettingsFile

NodeName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]

HEARTBEATS_PER_LEASE: Final = 4
"""A lease must survive a few renewals that are late or lost."""


def _directory(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise Misfit(f'"{path}" is no absolute path', "begin it with /")
    return path


def _endpoint(text: str) -> str:
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
        if not colon or bracketed != (address.version == 6) or not port.isascii() or not 0 < int(port) < 65536:
            raise ValueError
    except ValueError as error:
        raise Misfit(f'"{text}" is not an address and a port', "10.0.0.1:7400, or [fd00::1]:7400 for IPv6") from error
    return text


def host_and_port(endpoint: str) -> tuple[str, int]:
    """The parts of an endpoint that stands in a node.toml: ("10.0.0.1", 7400), ("fd00::1", 7400)."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


class ThisNode(Section):
    """Which of the nodes this one is, and where it keeps its things."""

    id: NodeName = Field(description="Name of this node: one of `[[nodes]]`, and the one in its certificate.")
    data: str = Field(default="/var/lib/kagemusha", description="Directory for the registry, agents and logs.")
    run: str = Field(default="/run/kagemusha", description="Directory for sockets and the leases, empty after a boot.")
    pki: str = Field(default="/etc/kagemusha/pki", description="Directory that `kagemusha pki issue` wrote.")

    _are_directories = field_validator("data", "run", "pki")(_directory)


class Cluster(Section):
    """What all nodes have in common."""

    id: NodeName = Field(description="Name of the cluster. Nodes of another one are refused.")
    epoch: int = Field(
        default=1, ge=1, le=2**31, description="Raise it on every node when `[[nodes]]` changes: all must agree."
    )


class NodeSettings(Section):
    """One node of the cluster, as the others reach it."""

    id: NodeName = Field(description="Name of the node.")
    address: str = Field(description="HOST:PORT of its messages to other nodes.")
    raft: str = Field(description="HOST:PORT of its member of the Raft group.")
    admin: str = Field(description="HOST:PORT of its API.")

    _are_endpoints = field_validator("address", "raft", "admin")(_endpoint)


class Times(Section):
    """How long things may take. What is safe depends on all of them together, so they are checked together."""

    heartbeat_ms: Milliseconds = Field(
        default=50, description="From one heartbeat, and one lease renewal, to the next."
    )
    lease_ms: Milliseconds = Field(
        default=400, description="How long a primary may serve without hearing from the leader."
    )
    leader_lease_ms: Milliseconds = Field(
        default=300, description="How long a leader may decide without hearing from a quorum."
    )
    election_ms: Annotated[tuple[Milliseconds, Milliseconds], Field(strict=False)] = Field(
        default=(150, 300), description="A follower that hears no leader for a time between these two asks for votes."
    )
    drift_ppm: int = Field(
        default=1000, ge=0, le=100_000, description="How fast the clocks of two nodes may run apart, in millionths."
    )
    margin_ms: Milliseconds = Field(default=10, description="Added to every wait for a lease of another node.")
    fence_ms: Milliseconds = Field(
        default=15, description="How long the watchdog may need to stop a program whose lease has ended."
    )
    request_ms: Milliseconds = Field(default=10_000, description="How long an order to another node may take.")

    @model_validator(mode="after")
    def _are_safe_together(self) -> Self:
        low, high = self.election_ms
        if low >= high:
            raise Misfit(f"election_ms = [{low}, {high}] is no range", "election_ms = [150, 300], say")
        if self.lease_ms < HEARTBEATS_PER_LEASE * self.heartbeat_ms:
            raise Misfit(
                f"lease_ms = {self.lease_ms} is less than {HEARTBEATS_PER_LEASE} heartbeats of {self.heartbeat_ms} ms",
                "one late renewal would stop the program; raise lease_ms or lower heartbeat_ms",
            )
        if self.leader_lease_ms < HEARTBEATS_PER_LEASE * self.heartbeat_ms:
            raise Misfit(
                f"leader_lease_ms = {self.leader_lease_ms} is less than {HEARTBEATS_PER_LEASE} heartbeats",
                "the leader would lose its lease to one late answer; raise it",
            )
        if self.leader_lease_ms > self.lease_ms:
            raise Misfit(
                f"leader_lease_ms = {self.leader_lease_ms} is more than lease_ms = {self.lease_ms}",
                "a leader must not outlive what it grants; lower it",
            )
        if 2 * self.fence_ms >= self.lease_ms:
            raise Misfit(f"fence_ms = {self.fence_ms} is half of lease_ms or more", "raise lease_ms")
        if self.margin_ms * 1000 < self.lease_ms * self.drift_ppm / 1000:
            raise Misfit(
                f"margin_ms = {self.margin_ms} does not cover the drift of clocks over lease_ms",
                "raise margin_ms or lower drift_ppm",
            )
        return self

    def lease_times(self) -> LeaseTimes:
        """What the lease rooms need of these, in their units."""
        return LeaseTimes(
            lease_s=self.lease_ms / 1000,
            leader_lease_s=self.leader_lease_ms / 1000,
            drift=self.drift_ppm / 1e6,
            margin_s=self.margin_ms / 1000,
            fence_s=self.fence_ms / 1000,
        )


class Agents(Section):
    """The agents of this node's instances."""

    stream_ports: Annotated[tuple[int, int], Field(strict=False)] = Field(
        default=(7500, 7599), description="First and last port at which they offer their checkpoints to mirrors."
    )
    restart_ms: Milliseconds = Field(default=200, description="Wait before an agent that died is started again.")

    @field_validator("stream_ports")
    @classmethod
    def _is_a_range(cls, ports: tuple[int, int]) -> tuple[int, int]:
        if not 0 < ports[0] <= ports[1] < 65536:
            raise Misfit(f"[{ports[0]}, {ports[1]}] is no range of ports", "stream_ports = [7500, 7599], say")
        return ports


class ApiSettings(Section):
    """The API of this node, which listens at its `admin` endpoint."""

    tokens: str = Field(
        default="/etc/kagemusha/tokens.toml", description="File with the hashes of tokens; `kagemusha token` fills it."
    )

    _is_a_path = field_validator("tokens")(_directory)


class KeepalivedSettings(Section):
    """Where this node's keepalived is, for programs with `redirect.driver = "keepalived"`."""

    config: str = Field(
        default="/etc/keepalived/keepalived.conf",
        description="keepalived's configuration. It is only read, and must include `keepalived/*.conf` in `node.run`.",
    )
    pid_file: str = Field(default="/run/keepalived.pid", description="Where keepalived writes its pid.")
    command: str = Field(default="/usr/sbin/keepalived", description="keepalived itself, to check a configuration.")

    _are_paths = field_validator("config", "pid_file", "command")(_directory)


class NodeConfig(Section):
    """A whole node.toml."""

    node: ThisNode
    cluster: Cluster
    nodes: Annotated[tuple[NodeSettings, ...], Field(strict=False, min_length=1)] = Field(
        description="A list of tables: one `[[nodes]]` for each node of the cluster, this one too."
    )
    times: Times = Field(default_factory=Times)
    agents: Agents = Field(default_factory=Agents)
    api: ApiSettings = Field(default_factory=ApiSettings)
    keepalived: KeepalivedSettings = Field(default_factory=KeepalivedSettings)

    @model_validator(mode="after")
    def _nodes_are_apart(self) -> Self:
        names = [one.id for one in self.nodes]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise Misfit(f"two [[nodes]] have the id {twice}", "every node needs a name of its own")
        endpoints = [end for one in self.nodes for end in (one.address, one.raft, one.admin)]
        if len(set(endpoints)) != len(endpoints):
            twice = next(end for end in endpoints if endpoints.count(end) > 1)
            raise Misfit(f"{twice} stands in [[nodes]] twice", "every endpoint needs a port of its own")
        if self.node.id not in names:
            raise Misfit(f"[node] id = {self.node.id} is none of [[nodes]]", f"they are {', '.join(names)}")
        return self

    @property
    def own(self) -> NodeSettings:
        """This node's entry."""
        return next(one for one in self.nodes if one.id == self.node.id)

    @property
    def others(self) -> tuple[NodeSettings, ...]:
        """All nodes but this one."""
        return tuple(one for one in self.nodes if one.id != self.node.id)

    def membership(self) -> str:
        """What all nodes must agree on before they speak: cluster, epoch, nodes, times; SHA-256 in hex."""
        return self._digest("cluster", "nodes", "times")

    def layout(self) -> str:
        """Which nodes there are, and where: what they must agree on before they agree on anything; SHA-256 in hex."""
        return self._digest("nodes")

    def _digest(self, *tables: str) -> str:
        return hashlib.sha256(self.model_dump_json(include=set(tables)).encode()).hexdigest()


NODE_FILE: Final = SettingsFile(
    NodeConfig,
    "a node.toml",
    "examples/cluster/node.toml is one",
    "examples/cluster/node.toml has every key, with what it means",
)
