"""What people have asked of one program and wait for: each request is answered once. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.leader.news import FailoverRequested, StartRequested, StopRequested, SwitchRequested
from cluster.leader.orders import Answer, Order
from cluster.registry.commands import Result


@dataclass(slots=True)
class Asked:
    """Of each kind the request that waits, None for none.

    repeated: requests that an earlier leader carried out, but for the new primary's coming up.
    """

    switch: SwitchRequested | None = None
    failover: FailoverRequested | None = None
    stop: StopRequested | None = None
    start: StartRequested | None = None
    repeated: list[str] = field(default_factory=list)

    def take_change(self) -> SwitchRequested | FailoverRequested | None:
        """The change of primary that is asked for, which is somebody else's to answer from now on."""
        asked = self.failover or self.switch
        self.failover = self.switch = None
        return asked

    def answer_start(self, result: Result) -> list[Order]:
        """Whoever waits for the start."""
        start, self.start = self.start, None
        return [] if start is None else [Answer(start.request_id, result)]

    def answer_stop(self, result: Result) -> list[Order]:
        """Whoever waits for the end, or for the deletion."""
        stop, self.stop = self.stop, None
        return [] if stop is None else [Answer(stop.request_id, result)]

    def answer_repeated(self, result: Result) -> list[Order]:
        """Whoever asked for what is agreed already."""
        repeated, self.repeated = self.repeated, []
        return [Answer(request_id, result) for request_id in repeated]

    def drop(self) -> list[str]:
        """Nobody waits any more; gives all of their requests."""
        waiting = [one.request_id for one in (self.switch, self.failover, self.stop, self.start) if one is not None]
        waiting += self.repeated
        self.switch = self.failover = self.stop = self.start = None
        self.repeated = []
        return waiting
