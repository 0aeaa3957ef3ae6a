"""A small cluster of values: what the API's tests ask. It remembers request ids, as the registry does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from cluster.admin.events import EventLog
from cluster.admin.models import (
    Checkpoint,
    Create,
    Drained,
    Event,
    Health,
    InstanceSummary,
    InstanceView,
    NodeView,
    Pauses,
    ProgramView,
    Step,
    StructuresView,
    Switchover,
    Sync,
)
from cluster.admin.port import Exists, Unfit, Unknown
from cluster.admin.samples import of_group, of_instances, of_programs
from cluster.admin.views import structures_view
from cluster.metrics.table import Sample
from cluster.metrics.tally import Tally
from cluster.registry.values import Placement
from transport.checkpoint import Version
from transport.context_schema import (
    ConnectionView,
    Context,
    DescriptorView,
    HandlerView,
    MappingView,
    Place,
    ThreadView,
)
from transport.errors import KagemushaError
from transport.structure_view import Structures, StructureView

NODES = ("a", "b", "c")
CHECKPOINT = Checkpoint(token=1, number=77, digest="00ff")
PAUSES = Pauses(p50_us=700, p99_us=900, max_us=1200)


def instance_view(name: str, role: str = "primary", status: str = "mirrored", sync: Sync | None = None) -> InstanceView:
    """An instance that is well."""
    place = Placement.parse(name)
    return InstanceView.model_validate(
        {
            "instance": name,
            "program": place.program,
            "node": place.node,
            "role": role,
            "status": status,
            "reason": "",
            "token": 1,
            "guarantee": "async",
            "checkpoint": None if sync else CHECKPOINT,
            "lag_checkpoints": 1,
            "lag_ms": None if sync else 51.5,
            "lag_bytes": 4096,
            "lease_age_ms": 12.5 if role == "primary" else None,
            "pauses": PAUSES,
            "checkpoints": 77,
            "abandoned": 0,
            "refused": {"corrupt": 2},
            "streamed_bytes": 5 << 20,
            "memory_bytes": 128 << 20,
            "sync": sync,
            "mirrors": (),
            "connections": 3,
            "children": 0,
            "pid": 99,
            "paused": False,
            "last_failure": {"instance": name, "reason": "killed by signal 9", "at": "2026-01-01T00:00:00Z"},
        }
    )


def program_view(name: str, config_file: str, nodes: tuple[str, ...] = NODES, primary: str = "a") -> ProgramView:
    """A program whose first node serves."""
    instances = tuple(
        InstanceSummary(
            instance=f"{name}@{node}",
            node=node,
            role="primary" if node == primary else "mirror",
            status="running" if node == primary else "mirrored",
            reason="",
            in_sync=False,
        )
        for node in nodes
    )
    return ProgramView(
        program=name,
        config_file=config_file,
        config_digest="d" * 64,
        token=1,
        primary=primary,
        paused=False,
        paused_until=None,
        guarantee="async",
        shut_down=False,
        takeovers=0,
        fenced=False,
        last_promotion=None,
        instances=instances,
    )


CONTEXT = Context(
    program="redis",
    instance="redis@a",
    version=Version(1, 77, 255),
    executable="/usr/bin/redis-server",
    directory="/var/lib/redis",
    pid=77,
    threads=(
        ThreadView(
            77, "redis-server", Place(0x7F0000001000, "/lib/libc.so.6", 0x1000), 0x7FFD0000, 232,
            (Place(0x55550000, "/usr/bin/redis-server", 0x30),), (), (),
        ),
    ),
    handlers=(HandlerView(15, "SIGTERM", Place(0x55550000, "/usr/bin/redis-server", 0x30), ("SA_RESTART",)),),
    descriptors=(DescriptorView((6, 7), "tcp", "listens at 0.0.0.0:6379, backlog 511"),),
    connections=(ConnectionView(8, "connected", "10.0.0.100:6379", "10.0.0.9:40000", 0, 12),),
    mappings=(MappingView(0x7FFC0000, 0x7FFE0000, "rw-p", "stack", "[stack]", 0),),
    omitted={"mappings": 3},
)  # fmt: skip


class FakeCluster:
    """Serves one program, `redis`, as if from node a. failure: raised by everything that is asked."""

    def __init__(self, node: str = "a") -> None:
        self.node = node
        self.all: dict[str, ProgramView] = {"redis": program_view("redis", "/etc/kagemusha/redis.toml")}
        self.failure: KagemushaError | None = None
        self.log = EventLog()
        self.tally = Tally()
        self.asked: list[tuple[str, str]] = []
        self.quorum = True
        self.syncing: list[Sync] = []
        self.gone: set[str] = set()
        self.drained: set[str] = set()

    def _ask(self, what: str, request_id: str = "") -> None:
        self.asked.append((what, request_id))
        if self.failure is not None:
            raise self.failure

    def _known(self, instance: str) -> ProgramView:
        place = Placement.parse(instance)
        program = self.all.get(place.program)
        if program is None or place.node not in {one.node for one in program.instances}:
            raise Unknown(f"there is no instance {instance}", hint="`kagemusha list` shows all")
        return program

    def _program(self, program: str) -> ProgramView:
        if program not in self.all:
            raise Unknown(f"there is no program {program}", hint="`kagemusha list` shows all")
        return self.all[program]

    async def create(self, request: Create, request_id: str) -> ProgramView:
        self._ask("create", request_id)
        if request.program_id in self.all:
            raise Exists(f"there is a program {request.program_id} already", hint="delete it first")
        created = program_view(request.program_id, request.config_file, request.nodes or NODES)
        self.all[request.program_id] = created
        return created

    async def status(self, instance: str) -> InstanceView:
        self._ask("status")
        program = self._known(instance)
        one = next(one for one in program.instances if one.instance == instance)
        sync = self.syncing.pop(0) if self.syncing and one.role == "mirror" else None
        return instance_view(instance, one.role, "syncing" if sync else one.status, sync)

    async def switchover(self, instance: str, request_id: str) -> Switchover:
        self._ask("switchover", request_id)
        program = self._known(instance)
        if program.program == "failed":
            raise Unfit(f"{instance} is failed: no memory", hint="see its node's log")
        new = instance if not instance.endswith(f"@{program.primary}") else program.instances[1].instance
        return Switchover(
            program=program.program,
            old=f"{program.program}@{program.primary}",
            new=new,
            token=2,
            checkpoint=CHECKPOINT,
            timeline=(Step(name="hold", took_us=900), Step(name="activate", took_us=4100)),
        )

    async def context(self, instance: str) -> Context:
        self._ask("context")
        self._known(instance)
        return CONTEXT

    async def structures(self, instance: str, name: str, elements: int) -> StructuresView:
        self._ask("structures")
        self._known(instance)
        content = json.dumps({"entries": [{"user": "ann"}] * min(elements, 3)}) if name else ""
        shown = StructureView("g_sessions", "symbol g_sessions", 4096, 0, 12.5, "", content)
        lost = StructureView("g_index", "symbol g_index", 0, 0, None, "redis has no variable g_index")
        return structures_view(Structures("redis", instance, "primary", (shown, lost)))

    async def programs(self) -> tuple[ProgramView, ...]:
        self._ask("programs")
        return tuple(self.all[name] for name in sorted(self.all))

    async def nodes(self) -> tuple[NodeView, ...]:
        self._ask("nodes")
        return tuple(
            NodeView(
                node=name,
                address=f"10.0.0.{number}:7400",
                admin=f"10.0.0.{number}:7402",
                alive=name != "c",
                leader=name == "a",
                heartbeat_age_ms=None if name == "c" else 12.0,
                cpu=0.25,
                free_bytes=3 << 30,
                latency_ms=0.4,
                trouble="it was 230 ms late with a heartbeat of late" if name == "b" else "",
                instances=(f"redis@{name}",),
                drained=name in self.drained,
            )
            for number, name in enumerate(NODES, 1)
        )

    async def start(self, program: str, request_id: str) -> ProgramView:
        self._ask("start", request_id)
        self.all[program] = self._program(program).model_copy(update={"shut_down": False})
        return self.all[program]

    async def stop(self, program: str, request_id: str) -> ProgramView:
        self._ask("stop", request_id)
        return self._program(program)

    async def shutdown(self, program: str, request_id: str) -> ProgramView:
        self._ask("shutdown", request_id)
        known = self._program(program)
        instances = tuple(one.model_copy(update={"status": "stopped"}) for one in known.instances)
        self.all[program] = known.model_copy(update={"shut_down": True, "instances": instances})
        return self.all[program]

    async def delete(self, program: str, request_id: str) -> None:
        self._ask("delete", request_id)
        self._program(program)
        del self.all[program]

    async def pause(self, program: str, for_s: int, request_id: str) -> ProgramView:
        self._ask("pause", request_id)
        paused = {"paused": True, "paused_until": "2026-01-01T01:00:00Z"}
        self.all[program] = self._program(program).model_copy(update=paused)
        return self.all[program]

    async def resume(self, program: str, request_id: str) -> ProgramView:
        self._ask("resume", request_id)
        self.all[program] = self._program(program).model_copy(update={"paused": False, "paused_until": None})
        return self.all[program]

    async def failover(self, instance: str, force: bool, request_id: str) -> Switchover:
        if not force:
            raise Unfit("the primary on node a serves: what it did of late would be lost", hint="--force")
        return await self.switchover(instance, request_id)

    async def drain(self, node: str, over: bool, request_id: str) -> Drained:
        self._ask("undrain" if over else "drain", request_id)
        if node not in NODES:
            raise Unknown(f"there is no node {node}", hint="`kagemusha topology` shows all")
        (self.drained.discard if over else self.drained.add)(node)
        primaries = tuple(f"{one.program}@{node}" for one in self.all.values() if one.primary == node)
        return Drained(node=node, drained=not over, primaries=primaries)

    async def set_log_level(self, node: str, level: str, for_s: int) -> None:
        self._ask(f"log-level {node} {level} {for_s}")
        if node not in NODES:
            raise Unknown(f"there is no node {node}", hint="`kagemusha topology` shows all")

    async def leads_no_more(self, node: str) -> None:
        while node not in self.gone:
            await asyncio.sleep(0.01)

    def history(self, program: str, limit: int) -> tuple[Event, ...]:
        return self.log.newest(program, limit)

    def primaries_here(self, program: str) -> tuple[str, ...]:
        return ("redis@a",) if self.node == "a" and program in ("", "redis") else ()

    def mirrors_here(self, program: str, max_lag_ms: float | None) -> tuple[str, ...]:
        return () if max_lag_ms is not None and max_lag_ms < 51.5 else (f"redis@{self.node}",)

    async def samples(self) -> tuple[Sample, ...]:
        instances = of_instances([instance_view("redis@a")])
        return (*of_group(self.health(), len(NODES)), *of_programs(self.all.values()), *instances)

    def health(self) -> Health:
        return Health(
            node=self.node,
            cluster="test",
            leader="a" if self.quorum else None,
            term=3,
            quorum=self.quorum,
            missing=() if self.quorum else ("b", "c"),
        )

    def events(self, after: int | None) -> AsyncIterator[Event]:
        return self.log.follow(after)


def event(index: int, text: str = "node a leads in term 3") -> Event:
    """Something that happened."""
    return Event(
        index=index,
        at="2026-01-01T00:00:00Z",
        kind="leader-changed",
        program="",
        instance="",
        node="a",
        text=text,
    )
