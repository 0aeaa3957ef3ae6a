"""One run: a cluster, a plan, what was seen, and what is to be said of it."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Directory, clear_crashed_runs, new_run_id
from tests.chaos.cgroup import clear_crashed_cgroups
from tests.chaos.checkers.all import violations
from tests.chaos.checkers.growth import lives
from tests.chaos.checkers.recovery import silences_s
from tests.chaos.checkers.validity import why_invalid
from tests.chaos.checkers.verdict import Violation
from tests.chaos.disk import IMAGE
from tests.chaos.evidence import NS_PER_S, Evidence, Struck
from tests.chaos.faults.all import FAULTS
from tests.chaos.leak_report import report
from tests.chaos.merged_log import write_merged
from tests.chaos.nemesis import Nemesis, Notes
from tests.chaos.observer import SceneError
from tests.chaos.plan import Plan
from tests.chaos.programs import Setup
from tests.chaos.scene import Making, Scene
from tests.chaos.stage import Stage
from tests.chaos.witness import WitnessError

_PLAIN = Setup()
Verdict = Literal["kept", "violated", "invalid", "broken"]
"""broken: the run could not be carried through, and says nothing of the product."""


@dataclass(slots=True)
class Outcome:
    """What came of it. about: of the cluster, for the figures. ours: whether it is one of our own, see `why_invalid`.
    kept_in: the directory with all logs, the evidence and the plan; "" after a good run. took_s: each part of it."""

    plan: Plan
    about: Mapping[str, Any]
    ours: bool = True
    evidence: Evidence = field(default_factory=Evidence)
    violations: list[Violation] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    broken: str = ""
    kept_in: str = ""
    took_s: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """A violation counts even where the run would otherwise say nothing."""
        if self.violations:
            return "violated"
        return "broken" if self.broken else "invalid" if self.invalid else "kept"

    def figures(self) -> dict[str, Any]:
        """As one JSON object."""
        evidence = self.evidence
        written = [one for one in evidence.operations if one.kind == "append" and one.ok]
        silent_s = silences_s(evidence)
        there = {(one.client, number) for one in evidence.contents for number in one.numbers}
        return {
            "verdict": self.verdict,
            **self.about,
            "seed": self.plan.seed,
            "steps": len(self.plan.steps),
            "faults": dict(sorted(Counter(one.kind for one in evidence.struck).items())),
            "violations": [asdict(one) for one in self.violations],
            "invalid": self.invalid,
            "broken": self.broken,
            "struck": [_told(one, silent_s[one.number]) for one in evidence.struck],
            "writes_acknowledged": len(written),
            "writes_lost": sum((one.client, one.number) not in there for one in written) if there else None,
            "reads_answered": sum(one.kind == "read" and one.ok for one in evidence.operations),
            "unanswered": sum(not one.ok for one in evidence.operations),
            "registry": dict(sorted(Counter(one.outcome for one in evidence.registry).items())),
            "whole_again_s": [
                round((one.whole_ns - one.healed_ns) / NS_PER_S, 2) for one in evidence.struck if one.whole_ns
            ],
            "leaks": report(lives(evidence)),
            "took_s": self.took_s,
            "kept_in": self.kept_in,
        }

    def keep(self, path: Path) -> None:
        """Write down in a run's directory what is known, beside its logs."""
        self.kept_in = str(path)
        (path / "plan.json").write_text(self.plan.text())
        self.evidence.save(path / "evidence.jsonl")
        write_merged(path, path / "merged.log")


def _told(one: Struck, silent_s: float) -> dict[str, Any]:
    """Of one fault, for the figures. lasted_s: until it was healed. silent_s: the longest time without any answer."""
    whole_s = None if one.whole_ns is None else round((one.whole_ns - one.healed_ns) / NS_PER_S, 2)
    lasted_s = round((one.healed_ns - one.begun_ns) / NS_PER_S, 2)
    about = {"number": one.number, "kind": one.kind, "target": one.target, "node": one.node, "loses": one.loses}
    times_s = {"lasted_s": lasted_s, "silent_s": round(silent_s, 2), "whole_again_s": whole_s}
    return {**about, "had_effect": bool(one.effect), **times_s}


class _Laps:
    """How long each part of a run takes."""

    def __init__(self, took_s: dict[str, float]) -> None:
        self._took_s = took_s
        self._since_s = time.monotonic()

    def end(self, part: str) -> None:
        """That part is over, and the next one begins."""
        now_s = time.monotonic()
        self._took_s[part] = round(now_s - self._since_s, 1)
        self._since_s = now_s


async def carry_out(
    plan: Plan,
    tell: Callable[[str], None],
    *,
    setup: Setup = _PLAIN,
    keep: bool = False,
    more: Mapping[str, Making] = MappingProxyType({}),
) -> Outcome:
    """Build a cluster of namespaces, walk through the plan, judge. keep: also the logs of a good run. more: what may be
    done besides the faults, or instead of those of the same name."""
    clear_crashed_runs()
    clear_crashed_cgroups()
    outcome = Outcome(plan, asdict(setup))
    directory = Directory(new_run_id())
    try:
        await judged(lambda: Scene(directory, setup, {**FAULTS, **more}), outcome, directory.logs, tell)
    finally:
        if keep or outcome.verdict != "kept":
            outcome.keep(directory.path)
        for image in directory.path.glob(f"{IMAGE}*"):
            image.unlink()
        directory.close(keep=bool(outcome.kept_in))
    return outcome


async def judged(make: Callable[[], Stage], outcome: Outcome, logs: Path, tell: Callable[[str], None]) -> None:
    """Walk through the plan where `make` makes it possible; what came of it is in the outcome."""
    try:
        await _play(make(), outcome, logs, tell)
    except (DemoError, SceneError, WitnessError, TimeoutError) as error:
        outcome.broken = str(error) or type(error).__name__
    except Exception as error:
        # A mistake of ours must not look like a finding.
        outcome.broken = f"{type(error).__name__}: {error}"
        (logs / "mistake.log").write_text(traceback.format_exc())


async def _play(stage: Stage, outcome: Outcome, logs: Path, tell: Callable[[str], None]) -> None:
    evidence = outcome.evidence
    laps = _Laps(outcome.took_s)
    try:
        await stage.open()
        laps.end("begin")
        nemesis = Nemesis(stage, outcome.plan, Notes(logs / "nemesis.log", tell))
        try:
            await nemesis.run()
        finally:
            laps.end("plan")
            evidence.struck, evidence.census = nemesis.struck, nemesis.census
            evidence.reports, evidence.standings = stage.reports, stage.standings
            evidence.samples, evidence.registry = stage.samples, await stage.registered()
        try:
            for file in await stage.witnesses():
                await asyncio.to_thread(evidence.add, file)
        finally:
            evidence.history = await stage.history()
        laps.end("witnesses")
    finally:
        await stage.close()
        laps.end("end")
        outcome.violations = violations(evidence)
        outcome.invalid = [] if outcome.broken else list(why_invalid(evidence, ours=outcome.ours))
        laps.end("judge")
