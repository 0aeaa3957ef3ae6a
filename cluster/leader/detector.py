"""Which nodes have fallen silent: an accrual failure detector that adapts to how regularly each one is heard. Pure.

Each node's heartbeats come at intervals of their own; from the last ones the detector knows mean and deviation. The
suspicion at some moment is how unlikely it is that a living node is silent for so long, as -log10 of the probability
(8: once in a hundred million heartbeats), after Hayashibara et al., "The φ accrual failure detector" (2004). A network
that jitters widens the deviation, and so is given more time by itself; bounds keep that between `silence_s_min` and
`silence_s_max`. A wrong suspicion costs a pause, never a second primary: fencing comes after it.

Whoever was late itself accuses nobody. A node that was not scheduled for a while heard nothing in that time, and finds
its timers due before it reads what has arrived meanwhile. So silence is measured in waking time: it must say at least
once in every heartbeat's interval that it is awake (`awake`), and what it slept longer than that does not count,
neither as silence nor as an interval.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

from cluster.registry.values import NodeId

INTERVALS: Final = 64
"""So many intervals are remembered of each node: three seconds of heartbeats."""


SLEEP_HEARTBEATS: Final = 1.5
"""Who was not awake for longer than so many of its own heartbeats' intervals has slept."""


@dataclass(frozen=True, slots=True)
class DetectorTimes:
    """heartbeat_s: what is expected before anything was heard, and how often this node is awake. deviation_s_min: never
    less, however regular a node was. suspicion: at which a node counts as lost."""

    heartbeat_s: float = 0.050
    deviation_s_min: float = 0.010
    silence_s_min: float = 0.150
    silence_s_max: float = 0.400
    suspicion: float = 8.0


@dataclass(slots=True)
class _Pulse:
    """heard_s: when it was heard last; waking_s: the same in waking time, as its intervals are.

    rhythm_s: their mean and deviation, kept from one sign of life to the next: a leader asks for them at every event.
    """

    heard_s: float
    waking_s: float
    intervals_s: deque[float] = field(default_factory=lambda: deque(maxlen=INTERVALS))
    rhythm_s: tuple[float, float] | None = None
    closed: bool = False


class Detector:
    """Watches the nodes that it was told to expect. Times are seconds of any clock that does not go back."""

    def __init__(self, times: DetectorTimes) -> None:
        self._times = times
        self._pulses: dict[NodeId, _Pulse] = {}
        self._deviations = -NormalDist().inv_cdf(10.0**-times.suspicion)
        self._awake_s = math.inf
        self._slept_s = 0.0

    def awake(self, now_s: float) -> None:
        """This node is awake now; to be told before anything else, and at least in every interval of its heartbeats.

        A detector that is never told takes its node for one that never sleeps.
        """
        gap_s = now_s - self._awake_s
        if gap_s > SLEEP_HEARTBEATS * self._times.heartbeat_s:
            self._slept_s += gap_s - self._times.heartbeat_s
        self._awake_s = now_s

    @property
    def slept_s(self) -> float:
        """For how long this node was not awake when it should have been, in all."""
        return self._slept_s

    def expect(self, now_s: float, node: NodeId) -> None:
        """Watch this node from now on, as if it had just been heard."""
        self._pulses[node] = _Pulse(now_s, now_s - self._slept_s)

    def heard(self, now_s: float, node: NodeId) -> None:
        """A sign of life, of a node that is watched or will be from now on."""
        pulse, waking_s = self._pulses.get(node), now_s - self._slept_s
        if pulse is None or pulse.closed or waking_s - pulse.waking_s >= self._times.silence_s_max:
            self._pulses[node] = _Pulse(now_s, waking_s)
        elif now_s > pulse.heard_s:
            pulse.intervals_s.append(waking_s - pulse.waking_s)
            pulse.rhythm_s = None
            pulse.heard_s, pulse.waking_s = now_s, waking_s

    def closed(self, node: NodeId) -> None:
        """The connection to this node ended: it is lost until it is heard again."""
        if node in self._pulses:
            self._pulses[node].closed = True

    def heard_at_s(self, node: NodeId) -> float | None:
        """When it was heard last (or was first expected); None: it is not watched."""
        pulse = self._pulses.get(node)
        return None if pulse is None else pulse.heard_s

    def lost(self, now_s: float, node: NodeId) -> bool:
        """Whether this node counts as lost. One that is not watched does."""
        pulse = self._pulses.get(node)
        return pulse is None or pulse.closed or now_s >= self._silent_at_s(pulse)

    def suspicion(self, now_s: float, node: NodeId) -> float:
        """-log10 of the probability that a living node is silent for so long; infinite for one that is not watched."""
        pulse = self._pulses.get(node)
        if pulse is None or pulse.closed:
            return math.inf
        mean_s, deviation_s = self._rhythm(pulse)
        silence_s = now_s - self._slept_s - pulse.waking_s
        tail = 0.5 * math.erfc((silence_s - mean_s) / deviation_s / math.sqrt(2))
        return math.inf if tail <= 0 else -math.log10(tail)

    def next_loss_s(self, now_s: float) -> float | None:
        """When the next node will count as lost if nothing more is heard, and this one stays awake; None: none is left
        that could."""
        times_s = [self._silent_at_s(pulse) for pulse in self._pulses.values() if not pulse.closed]
        return min((at_s for at_s in times_s if at_s > now_s), default=None)

    def _silent_at_s(self, pulse: _Pulse) -> float:
        mean_s, deviation_s = self._rhythm(pulse)
        silence_s = mean_s + self._deviations * deviation_s
        allowed_s = min(max(silence_s, self._times.silence_s_min), self._times.silence_s_max)
        return pulse.waking_s + self._slept_s + allowed_s

    def _rhythm(self, pulse: _Pulse) -> tuple[float, float]:
        """Mean and deviation of its intervals; the expected interval counts as one of them."""
        if pulse.rhythm_s is None:
            intervals_s = (self._times.heartbeat_s, *pulse.intervals_s)
            mean_s = sum(intervals_s) / len(intervals_s)
            variance = sum((interval_s - mean_s) ** 2 for interval_s in intervals_s) / len(intervals_s)
            pulse.rhythm_s = mean_s, max(math.sqrt(variance), self._times.deviation_s_min)
        return pulse.rhythm_s
