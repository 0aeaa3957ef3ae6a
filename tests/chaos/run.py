"""One run: a cluster, a plan, what was seen, and what is to be said of it."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Directory, clear_crashed_runs, new_run_id
from tests.chaos.checkers.all import violations
from tests.chaos.checkers.validity import why_invalid
from tests.chaos.checkers.verdict import Violation
from tests.chaos.disk import IMAGE
from tests.chaos.evidence import NS_PER_S, Evidence
from tests.chaos.merged_log import write_merged
from tests.chaos.nemesis import Nemesis, Notes
from tests.chaos.plan import Plan
from tests.chaos.programs import Setup
from tests.chaos.scene import Scene, SceneError
from tests.chaos.witness import WitnessError

_PLAIN = Setup()
Verdict = Literal["kept", "violated", "invalid", "broken"]
"""broken: the run could not be carried through, and says nothing of the product."""


@dataclass(slots=True)
class Outcome:
    """What came of it. kept_in: the directory with all logs, the evidence and the plan; "" after a good run."""

    plan: Plan
    setup: Setup
    evidence: Evidence = field(default_factory=Evidence)
    violations: list[Violation] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    broken: str = ""
    kept_in: str = ""

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
        there = {(one.client, number) for one in evidence.contents for number in one.numbers}
        return {
            "verdict": self.verdict,
            **asdict(self.setup),
            "seed": self.plan.seed,
            "steps": len(self.plan.steps),
            "faults": dict(sorted(Counter(one.kind for one in evidence.struck).items())),
            "violations": [asdict(one) for one in self.violations],
            "invalid": self.invalid,
            "broken": self.broken,
            "writes_acknowledged": len(written),
            "writes_lost": sum((one.client, one.number) not in there for one in written) if there else None,
            "unanswered": sum(not one.ok for one in evidence.operations),
            "whole_again_s": [
                round((one.whole_ns - one.healed_ns) / NS_PER_S, 2) for one in evidence.struck if one.whole_ns
            ],
            "kept_in": self.kept_in,
        }


async def carry_out(plan: Plan, tell: Callable[[str], None], *, setup: Setup = _PLAIN, keep: bool = False) -> Outcome:
    """Build the cluster, walk through the plan, judge. keep: also the logs of a good run."""
    clear_crashed_runs()
    outcome = Outcome(plan, setup)
    directory = Directory(new_run_id())
    try:
        await _play(directory, outcome, tell)
    except (DemoError, SceneError, WitnessError, TimeoutError) as error:
        outcome.broken = str(error) or type(error).__name__
    except Exception as error:
        # A mistake of ours must not look like a finding.
        outcome.broken = f"{type(error).__name__}: {error}"
        (directory.logs / "mistake.log").write_text(traceback.format_exc())
    finally:
        if keep or outcome.verdict != "kept":
            outcome.kept_in = str(directory.path)
            _keep(directory.path, outcome)
        directory.close(keep=bool(outcome.kept_in))
    return outcome


async def _play(directory: Directory, outcome: Outcome, tell: Callable[[str], None]) -> None:
    scene = Scene(directory, outcome.setup)
    evidence = outcome.evidence
    try:
        await scene.open()
        nemesis = Nemesis(scene, outcome.plan, Notes(directory.logs / "nemesis.log", tell))
        try:
            await nemesis.run()
        finally:
            evidence.struck, evidence.census = nemesis.struck, nemesis.census
            evidence.reports = scene.reports
        for file in await scene.witnesses():
            await asyncio.to_thread(evidence.add, file)
        evidence.history = await scene.history()
    finally:
        await scene.close()
        outcome.violations = violations(evidence)
        outcome.invalid = [] if outcome.broken else list(why_invalid(evidence))


def _keep(path: Path, outcome: Outcome) -> None:
    (path / "plan.json").write_text(outcome.plan.text())
    outcome.evidence.save(path / "evidence.jsonl")
    write_merged(path, path / "merged.log")
    for image in path.glob(f"{IMAGE}*"):
        image.unlink()
