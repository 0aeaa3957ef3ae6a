"""Counts for a node's metrics what nobody is told of: stops by the watchdog, and restarts of keepalived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.agents.instance import LocalInstance
from cluster.fencing.guard import Guard
from cluster.metrics.tally import Tally
from cluster.redirect.keepalived_host import KeepalivedHost
from cluster.registry.values import ProgramId


def _wants_to_serve(instance: LocalInstance) -> bool:
    """Whether it is the end of its lease alone that stops it. One that has ended, or is held or fenced by an order,
    gets no lease any more, and is stopped at the end of the last one as well: nobody misses anything."""
    return instance.serving and instance.ended is None and not instance.fence_id and not instance.held


@dataclass(slots=True)
class Stops:
    """How often the watchdog has stopped a program, seen from time to time. returns: see `Guard.returns`."""

    returns: int | None = None
    stopped: bool = False

    def look(self, returns: int, *, stopped: bool) -> int:
        """How many stops began since the last look, those included that were over before this one."""
        over = 0 if self.returns is None else returns - self.returns
        begun = over + int(stopped) - int(self.stopped)
        self.returns, self.stopped = returns, stopped
        return max(begun, 0)


class Observer:
    """`look` again and again. keepalived_runs: None while no program here wants it."""

    def __init__(self, guard: Guard, keepalived: KeepalivedHost, tally: Tally) -> None:
        self.keepalived_runs: bool | None = None
        self._guard = guard
        self._keepalived = keepalived
        self._tally = tally
        self._stops: dict[ProgramId, Stops] = {}
        self._ordered: dict[ProgramId, int] = dict(guard.ordered)
        self._keepalived_pid = 0

    def look(self, instances: Mapping[ProgramId, LocalInstance]) -> None:
        """See what the watchdog did."""
        guard = self._guard
        for program in self._stops.keys() - guard.programs:
            del self._stops[program]
        for program in guard.programs & instances.keys():
            stops = self._stops.setdefault(program, Stops())
            ended = stops.look(guard.returns(program), stopped=guard.lease_ended(program))
            if ended and _wants_to_serve(instances[program]):
                self._tally.count("kagemusha_watchdog_fences_total", program, "lease", by=ended)
        for program, ordered in guard.ordered.items():
            more = ordered - self._ordered.get(program, 0)
            if more:
                self._tally.count("kagemusha_watchdog_fences_total", program, "order", by=more)
                self._ordered[program] = ordered

    def look_at_keepalived(self, instances: Mapping[ProgramId, LocalInstance]) -> None:
        """See whether it runs, and is the same one as before."""
        if not any(one.clients.wants_keepalived for one in instances.values()):
            self.keepalived_runs = None
            return
        pid = self._keepalived.pid()
        self.keepalived_runs = pid != 0
        again = pid not in (0, self._keepalived_pid) and self._keepalived_pid != 0
        self._tally.count("kagemusha_keepalived_restarts_total", by=float(again))
        self._keepalived_pid = pid or self._keepalived_pid
