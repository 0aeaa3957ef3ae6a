"""What a node tells of itself as metrics, gathered when somebody asks; and what is counted of what was agreed."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from cluster.admin.models import Event, Health, InstanceView, ProgramView
from cluster.admin.samples import of_group, of_instances, of_programs
from cluster.leader.orders import Note
from cluster.leader.time_line import LEADERS_PARTS
from cluster.metrics.causes import CAUSES, cause_of
from cluster.metrics.table import Sample
from cluster.metrics.tally import Tally
from cluster.node.runner import Runner
from cluster.registry.commands import Command, DeleteProgram, Promote, Started, TakeOffice
from cluster.registry.values import Placement, ProgramId

WallClock = tuple[bool, float]
"""Whether a time service keeps the clock right, and how wrong it may be, in seconds."""
ReadClock = Callable[[], WallClock | None]
_COUNTED: Final = ("kagemusha_agent_losses_total", "kagemusha_clean_starts_total")


def unknown_clock() -> None:
    """A clock of which nothing is known."""
    return


class Readings:
    """One for each node."""

    def __init__(self, runner: Runner, read_clock: ReadClock) -> None:
        self._runner = runner
        self._read_clock = read_clock
        self._paused_since_s: dict[ProgramId, float] = {}
        self._started_s = time.time()
        self.tally: Tally = runner.supervisor.tally
        self.tally.count("kagemusha_leader_changes_total", by=0)

    # ------------------------------------------------------------ what happens

    def remember(self, events: Iterable[Event]) -> None:
        """What was agreed before this daemon was started: since when programs are paused."""
        for event in events:
            self._note_pause(event)

    def agreed(self, event: Event, command: Command) -> None:
        """Something was agreed, for the first time here."""
        self._note_pause(event)
        match command:
            case TakeOffice():
                self.tally.count("kagemusha_leader_changes_total")
            case Promote(program=program, instance=instance) if self._is_here(instance):
                self.tally.count("kagemusha_takeovers_total", program, cause_of(command))
            case Started(program=program, instance=instance, at_s=at_s) if at_s and self._is_here(instance):
                self.tally.count("kagemusha_clean_starts_total", program)
            case DeleteProgram(program=program):
                self.tally.forget(program)

    def served(self, note: Note) -> None:
        """A new primary serves, and this node led it there."""
        took_us = sum(took_us for name, took_us in note.parts if name in LEADERS_PARTS)
        self.tally.observe("kagemusha_takeover_seconds", max(took_us, 0) / 1e6, note.program)

    def _is_here(self, instance: str) -> bool:
        return Placement.parse(instance).node == self._runner.node

    def _note_pause(self, event: Event) -> None:
        if event.kind == "paused":
            self._paused_since_s.setdefault(event.program, datetime.fromisoformat(event.at).timestamp())
        elif event.kind in ("resumed", "program-deleted"):
            self._paused_since_s.pop(event.program, None)

    # ------------------------------------------------------------ what is

    def samples(
        self, health: Health, programs: Iterable[ProgramView], instances: Iterable[InstanceView]
    ) -> Iterator[Sample]:
        """All but the counters of `tally`."""
        programs, instances = tuple(programs), tuple(instances)
        self._begin_counting(instances)
        yield from of_group(health, len(self._runner.config.nodes))
        yield from self._of_node()
        yield from of_programs(programs)
        for program in programs:
            yield from self._of_pause(program)
        yield from of_instances(instances)
        yield from self._of_local()

    def _begin_counting(self, instances: Iterable[InstanceView]) -> None:
        """What has not happened yet is told as 0: of a counter that appears with 1 nobody sees that it rose."""
        for one in instances:
            for name in _COUNTED:
                self.tally.count(name, one.program, by=0)
            for cause in CAUSES:
                self.tally.count("kagemusha_takeovers_total", one.program, cause, by=0)
            for cause in ("lease", "order"):
                self.tally.count("kagemusha_watchdog_fences_total", one.program, cause, by=0)

    def _of_node(self) -> Iterator[Sample]:
        runner = self._runner
        load = runner.supervisor.load
        entry = runner.registry.nodes.get(runner.node)
        yield Sample("kagemusha_build_info", 1.0, (_version(), platform.python_version(), platform.release()))
        yield Sample("kagemusha_start_time_seconds", self._started_s)
        yield Sample("kagemusha_node_latency_seconds", load.latency_ms / 1000)
        yield Sample("kagemusha_node_trouble", float(bool(load.trouble)))
        yield Sample("kagemusha_node_drained", float(entry is not None and entry.drained))
        yield Sample("kagemusha_watchdog", float(runner.guard.is_watched))
        yield Sample("kagemusha_lease_seconds", runner.config.times.lease_ms / 1000)
        yield Sample("kagemusha_registry_commands", float(runner.registry.applied))
        yield Sample("kagemusha_tasks", float(len(asyncio.all_tasks())))
        for node, age_s in runner.heartbeat_ages_s().items():
            if node != runner.node:
                yield Sample("kagemusha_peer_heartbeat_age_seconds", age_s, (node,))
        clock = self._read_clock()
        if clock is not None:
            yield Sample("kagemusha_clock_synchronised", float(clock[0]))
            yield Sample("kagemusha_clock_error_seconds", clock[1])
        carries = runner.supervisor.observer.keepalived_runs
        if carries is not None:
            yield Sample("kagemusha_keepalived", float(carries))

    def _of_pause(self, program: ProgramView) -> Iterator[Sample]:
        if not program.paused:
            yield Sample("kagemusha_program_paused_seconds", 0.0, (program.program,))
        elif (since_s := self._paused_since_s.get(program.program)) is not None:
            yield Sample("kagemusha_program_paused_seconds", max(time.time() - since_s, 0.0), (program.program,))

    def _of_local(self) -> Iterator[Sample]:
        """What the daemon knows of its instances without their agents."""
        supervisor = self._runner.supervisor
        for name, one in sorted(supervisor.instances.items()):
            labels = (name,)
            if one.record.role == "none":
                continue
            yield Sample("kagemusha_agent", float(one.agent is not None), labels)
            age_s = one.tenure.lease_age_s
            if age_s is not None:
                yield Sample("kagemusha_lease_age_seconds", age_s, labels)
            held = one.clients.has_address()
            if held is not None:
                yield Sample("kagemusha_address_held", float(held), labels)
            if one.record.role == "primary":
                yield Sample("kagemusha_redirect_trouble", float(bool(one.clients.trouble)), labels)
            healthy = supervisor.is_healthy(name)
            if healthy is not None:
                yield Sample("kagemusha_healthy", float(healthy), labels)


def _version() -> str:
    try:
        return version("kagemusha")
    except PackageNotFoundError:
        return "unknown"
