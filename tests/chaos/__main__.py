"""`python -m tests.chaos`: harm a cluster by a seed or a plan, and judge; the last line is one JSON object with --json.

The cluster is one of namespaces on this machine, or, with --inventory, one that is deployed. With --seeds there are
many runs, one after the other.

Exit status: 0 everything was kept; 1 something was violated; 2 the command line or the plan is wrong; 3 the run is
invalid, as too little was written or a fault had no effect; 4 the run could not be carried through.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from kagemusha.demo.story import PORT
from tests.chaos.campaign import SeedsError
from tests.chaos.campaign_command import run_campaign
from tests.chaos.checkers.growth import lives
from tests.chaos.deployed.command import WRONG, run_there
from tests.chaos.deployed.faults import SITE_KINDS
from tests.chaos.faults.all import KINDS, kinds_with
from tests.chaos.leak_report import report_lines
from tests.chaos.plan import Plan, PlanError, Step, make_plan, make_soak
from tests.chaos.programs import DRIVERS, PROGRAMS, Setup
from tests.chaos.run import Outcome, Verdict, carry_out
from tests.chaos.shrink import shrink

_EXIT_CODES: dict[Verdict, int] = {"kept": 0, "violated": 1, "invalid": 3, "broken": 4}
_WRONG = 2
_SECONDS = 60.0
_SOAK_SECONDS = 3600.0


def main() -> int:
    """One run; with --shrink, after a violation, as many as it takes."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS=...", description=__doc__)
    parser.add_argument("--seconds", type=float, help=f"how long the plan takes, about (default: {_SECONDS:g})")
    parser.add_argument(
        "--soak",
        action="store_true",
        help=f"look for leaks: daemons are left alive (default: {_SOAK_SECONDS:g} seconds)",
    )
    parser.add_argument("--seed", type=int, help="what the plan is made of (default: by chance)")
    parser.add_argument(
        "--seeds", metavar="A-B", help="a run for each of these, 1-100 or 1-5,9, and a table in the end"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="with --seeds: what is known of each run; those in it are not repeated",
    )
    parser.add_argument("--plan", type=Path, help="a plan to be carried out again")
    parser.add_argument(
        "--only", action="append", choices=sorted({*KINDS, *SITE_KINDS}), metavar="FAULT", help="again for more"
    )
    parser.add_argument("--program", default="redis", help=f"what is mirrored: {', '.join(PROGRAMS)} (default: redis)")
    parser.add_argument("--driver", choices=DRIVERS, default="address", help="carries its address (default: address)")
    parser.add_argument("--shrink", action="store_true", help="after a violation: look for the shortest plan with one")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    there = parser.add_argument_group("a cluster that is deployed")
    there.add_argument("--inventory", type=Path, metavar="FILE", help="Ansible's, of the cluster to be harmed")
    there.add_argument("--dry-run", action="store_true", help="only say what would be done, and where")
    there.add_argument("--yes-kill", metavar="NAME", help="the cluster's name, instead of being asked for it")
    there.add_argument("--authority", type=Path, metavar="DIR", help="of the cluster's authority and the token")
    there.add_argument("--port", type=int, default=PORT, help=f"where the program speaks redis (default: {PORT})")
    options = parser.parse_args()
    options.seconds = options.seconds or (_SOAK_SECONDS if options.soak else _SECONDS)
    try:
        if options.seeds is not None:
            return run_campaign(options, _print)
        outcome = _there(options) if options.inventory is not None else _here(options)
    except (*WRONG, PlanError, SeedsError) as error:
        _say(str(error))
        return _WRONG
    if outcome is None:
        return 0
    _tell(outcome)
    if options.json:
        _print(json.dumps(outcome.figures()))
    return _EXIT_CODES[outcome.verdict]


def _here(options: argparse.Namespace) -> Outcome:
    if options.program not in PROGRAMS:
        raise PlanError(f"nobody knows the program {options.program}: one of {', '.join(PROGRAMS)} is mirrored")
    plan = _plan(options)
    _say(f"seed {plan.seed}: {len(plan.steps)} steps, {sum(len(step.strikes) for step in plan.steps)} faults")
    return asyncio.run(_carry_out(plan, Setup(options.program, options.driver), options.keep, options.shrink))


def _there(options: argparse.Namespace) -> Outcome | None:
    if options.shrink or options.soak:
        raise PlanError("--shrink and --soak are for clusters on this machine: nobody sees the processes of another")
    return run_there(options, _say)


def _plan(options: argparse.Namespace) -> Plan:
    if options.plan is not None:
        return Plan.parse(options.plan.read_text(), KINDS)
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    there = kinds_with(options.driver, options.program, daemons_live=options.soak)
    kinds = {kind: targets for kind, targets in there.items() if options.only is None or kind in options.only}
    if not kinds:
        raise PlanError(f"none of these faults is possible with the driver {options.driver}")
    return (make_soak if options.soak else make_plan)(seed, options.seconds, kinds)


async def _carry_out(plan: Plan, setup: Setup, keep: bool, shorten: bool) -> Outcome:
    outcome = await carry_out(plan, _say, setup=setup, keep=keep)
    if not shorten or outcome.verdict != "violated":
        return outcome
    last = outcome

    async def fails(steps: Sequence[Step]) -> bool:
        nonlocal last
        _say(f"--- with {len(steps)} steps")
        tried = await carry_out(plan.with_steps(steps), _say, setup=setup)
        if tried.verdict == "violated":
            last = tried
        return tried.verdict == "violated"

    await shrink(plan.steps, fails)
    return last


def _tell(outcome: Outcome) -> None:
    for violation in outcome.violations:
        _say(f"{violation.invariant} is violated: {violation.what}")
    for why in outcome.invalid:
        _say(f"invalid: {why}")
    if outcome.broken:
        _say(f"could not be carried through: {outcome.broken}")
    for line in report_lines(lives(outcome.evidence)):
        _say(line)
    figures = outcome.figures()
    _say(f"{outcome.verdict}: {figures['writes_acknowledged']} writes acknowledged, {figures['writes_lost']} lost")
    if outcome.kept_in:
        _say(f"plan.json, evidence.jsonl and merged.log are in {outcome.kept_in}")
        if outcome.verdict == "violated":
            sys.stderr.write(outcome.plan.text())


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
