"""Which harm is done when: a schedule made of a seed, and the file that keeps it (pure).

A plan is a list of steps. The harm of a step is done at once, lasts `for_s`, is healed; then the cluster is waited for,
and left alone for `rest_s`. A target is a role, not a node: who has it is known when the step begins.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args
from typing import Literal as _Literal

Target = _Literal["primary", "mirror", "leader", "follower"]
TARGETS: tuple[Target, ...] = get_args(Target)
RECOVERY_S = 6.0
"""How long a cluster takes to be whole again, roughly: what a plan of so many seconds is made with."""
_TOGETHER = 0.15


class PlanError(Exception):
    """A plan that can't be read, or asks for harm that nobody knows."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault. kind: its name. target: where."""

    kind: str
    target: Target


@dataclass(frozen=True, slots=True)
class Step:
    """Harm that is done at once, and healed at once."""

    strikes: tuple[Strike, ...]
    for_s: float
    rest_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedule of a run. seed: what it was made of; also that of all chance within faults."""

    seed: int
    steps: tuple[Step, ...]

    def with_steps(self, steps: Sequence[Step]) -> Plan:
        """The same with other steps."""
        return Plan(self.seed, tuple(steps))

    def text(self) -> str:
        """As a JSON document."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def parse(cls, text: str, kinds: Mapping[str, Sequence[Target]]) -> Plan:
        """What `text` gave. Raises PlanError."""
        try:
            document = json.loads(text)
            steps = tuple(_step(one, kinds) for one in document["steps"])
            plan = cls(int(document["seed"]), steps)
        except (ValueError, KeyError, TypeError) as error:
            raise PlanError(f"no plan: {type(error).__name__}: {error}") from None
        if not plan.steps:
            raise PlanError("no plan: it has no steps")
        return plan


def _step(one: Mapping[str, Any], kinds: Mapping[str, Sequence[Target]]) -> Step:
    strikes = tuple(Strike(str(strike["kind"]), strike["target"]) for strike in one["strikes"])
    for strike in strikes:
        if strike.kind not in kinds:
            raise PlanError(f"no plan: nobody knows the fault {strike.kind!r}")
        if strike.target not in TARGETS:
            raise PlanError(f"no plan: {strike.target!r} is no target, one of {', '.join(TARGETS)} is")
    return Step(strikes, float(one["for_s"]), float(one["rest_s"]))


def make_plan(seed: int, seconds: float, kinds: Mapping[str, Sequence[Target]]) -> Plan:
    """A plan that takes about so many seconds. kinds: the faults that there are, and where each may strike.

    Every kind comes once before any comes twice. Now and then two are done at once.
    """
    chance = random.Random(seed)
    steps: list[Step] = []
    left_s, bag = seconds, list[str]()
    while left_s > 0 or not steps:
        strikes = [_strike(chance, bag, kinds)]
        if chance.random() < _TOGETHER:
            strikes.append(_strike(chance, bag, kinds))
        step = Step(tuple(strikes), round(chance.uniform(0.3, 3.0), 2), round(chance.uniform(0.5, 2.0), 2))
        steps.append(step)
        left_s -= step.for_s + step.rest_s + RECOVERY_S
    return Plan(seed, tuple(steps))


def make_soak(seed: int, seconds: float, kinds: Mapping[str, Sequence[Target]]) -> Plan:
    """A plan for finding leaks, which takes so many seconds, and as long as it takes to be whole again: for half of it
    one fault after the other with much rest between, then nothing at all. kinds: as in `make_plan`; none of them should
    end what is looked at."""
    chance = random.Random(seed)
    steps: list[Step] = []
    left_s, bag = seconds / 2, list[str]()
    while left_s > 0 or not steps:
        strike = _strike(chance, bag, kinds)
        steps.append(Step((strike,), round(chance.uniform(0.3, 3.0), 2), round(chance.uniform(10.0, 20.0), 2)))
        left_s -= steps[-1].for_s + steps[-1].rest_s
    steps[-1] = replace(steps[-1], rest_s=seconds / 2)
    return Plan(seed, tuple(steps))


def _strike(chance: random.Random, bag: list[str], kinds: Mapping[str, Sequence[Target]]) -> Strike:
    if not bag:
        bag.extend(sorted(kinds))
        chance.shuffle(bag)
    kind = bag.pop()
    return Strike(kind, chance.choice(kinds[kind]))
