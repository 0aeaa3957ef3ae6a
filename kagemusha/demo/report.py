"""What a run of the demo found, and the JSON object that says it."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

TakeoverKind = Literal["process_killed", "node_killed", "switchover"]
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Step:
    """One bar of a takeover's time line: from `at_ms` after the event, for `took_ms`."""

    name: str
    at_ms: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class Takeover:
    """One takeover, with the client's view of it; times in ms. `beyond_staleness`: of the lost writes, those that
    the reported staleness does not cover: none is allowed.

    Under a cluster: `raft_leader`: whether the old primary's node led the Raft group; `parts_ms`: the leader's parts of
    the time line. Without one: None, and none.
    """

    kind: TakeoverKind
    source: str
    target: str
    token: int
    gap_ms: float
    gaps_ms: dict[str, float]
    writes_acknowledged: int
    writes_lost: int
    beyond_staleness: bool
    staleness_reported_ms: float
    connections_idle: int
    connections_idle_survived: int
    connections_busy: int
    connections_busy_survived: int
    connections_reset: int
    connections_hung: int
    raft_leader: bool | None = None
    parts_ms: dict[str, float] = field(default_factory=dict)
    hung_names: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    trace: dict[str, list[int]] = field(default_factory=dict)
    trace_before_ns: int = 0

    def public(self) -> dict[str, Any]:
        """The takeover as the JSON object shows it."""
        decided: dict[str, Any] = {}
        if self.raft_leader is not None:
            parts = {name: round(ms, 2) for name, ms in self.parts_ms.items()}
            decided = {"raft_leader": self.raft_leader, "timeline_ms": parts}
        return {
            "kind": self.kind,
            "from": self.source,
            "to": self.target,
            "token": self.token,
            "gap_ms": round(self.gap_ms, 2),
            "writes_acknowledged": self.writes_acknowledged,
            "writes_lost": self.writes_lost,
            "staleness_reported_ms": round(self.staleness_reported_ms, 2),
            "connections_idle": self.connections_idle,
            "connections_idle_survived": self.connections_idle_survived,
            "connections_busy": self.connections_busy,
            "connections_busy_survived": self.connections_busy_survived,
            "connections_reset": self.connections_reset,
            "connections_hung": self.connections_hung,
            **decided,
        }

    @property
    def leader_killed(self) -> bool:
        """Whether the node that died led the Raft group, so that a leader had to be found first."""
        return self.kind == "node_killed" and self.raft_leader is True

    def broken_promises(self) -> list[str]:
        """What this takeover must keep and did not, each in one line."""
        name = f"{self.kind} {self.source} -> {self.target} (token {self.token})"
        promises = [
            (self.connections_hung == 0, f"connections hung: {', '.join(self.hung_names)}"),
            (not self.beyond_staleness, "writes older than the reported staleness were lost"),
            (
                self.connections_idle_survived == self.connections_idle,
                f"only {self.connections_idle_survived} of {self.connections_idle} idle connections survived",
            ),
        ]
        if self.kind != "node_killed":
            promises += [
                (self.writes_lost == 0, f"{self.writes_lost} acknowledged writes were lost"),
                (
                    self.connections_busy_survived == self.connections_busy,
                    f"only {self.connections_busy_survived} of {self.connections_busy} busy connections survived",
                ),
            ]
        return [f"{name}: {what}" for kept, what in promises if not kept]


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long checkpoints stopped the program, in us."""

    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(slots=True)
class Report:
    """A whole run; filled as it goes. mirrors: how many there are."""

    program: str
    interval_ms: int
    mirrors: int = 1
    memory_mib: int = 0
    checkpoints: int = 0
    checkpoint_bytes: float = 0.0
    pauses: Pauses = field(default_factory=Pauses)
    unmirrored_per_second: float = 0.0
    mirrored_per_second: float = 0.0
    load_per_second: float = 0.0
    lag_ms: float = 0.0
    first_sync_s: float = 0.0
    takeovers: list[Takeover] = field(default_factory=list)

    @property
    def throughput_ratio(self) -> float:
        """Writes per second with all mirrors, by those without, each as fast as they are answered."""
        return self.mirrored_per_second / self.unmirrored_per_second if self.unmirrored_per_second else 0.0

    @property
    def mirrors_in_words(self) -> str:
        """For a person."""
        return "a mirror" if self.mirrors == 1 else f"{self.mirrors} mirrors"

    @property
    def load_ratio(self) -> float:
        """The load of the takeovers, by what redis does with all mirrors."""
        return self.load_per_second / self.mirrored_per_second if self.mirrored_per_second else 0.0

    def gap_ms(self, kind: TakeoverKind, *, leader: bool = False) -> float | None:
        """The median gap of a kind of takeover; None if there was none. leader: of nodes that led the Raft group, which
        do not count as any node."""
        gaps = [one.gap_ms for one in self.takeovers if one.kind == kind and one.leader_killed is leader]
        return statistics.median(gaps) if gaps else None

    def broken_promises(self) -> list[str]:
        """What the run must keep and did not."""
        return [line for takeover in self.takeovers for line in takeover.broken_promises()]

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(
            {
                "program": self.program,
                "memory_mib": self.memory_mib,
                "checkpoints": self.checkpoints,
                "interval_ms": self.interval_ms,
                "pause_us": {name: round(us) for name, us in asdict(self.pauses).items()},
                "throughput_ratio": round(self.throughput_ratio, 3),
                "takeovers": [takeover.public() for takeover in self.takeovers],
            }
        )

    def record(self) -> str:
        """Everything that was seen, as JSON: what the picture is made from."""
        return json.dumps(asdict(self))
