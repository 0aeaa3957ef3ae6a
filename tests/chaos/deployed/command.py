"""`python -m tests.chaos --inventory FILE`: asks whether it may, says what it would do, does it, judges."""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from kagemusha.demo.errors import DemoError
from tests.chaos.deployed.faults import SITE_FAULTS, SITE_KINDS, SiteHarm, possible
from tests.chaos.deployed.inventory import Inventory, InventoryError, Served, read_inventory
from tests.chaos.deployed.remote import RemoteError
from tests.chaos.deployed.site import Service, Site
from tests.chaos.observer import SceneError
from tests.chaos.plan import Plan, PlanError, make_plan
from tests.chaos.run import Outcome, judged

Tell = Callable[[str], None]


class RefusedError(Exception):
    """It is not done, and nothing was changed."""


def service_of(inventory: Inventory, program: str, port: int) -> Service:
    """Raises InventoryError."""
    served = inventory.programs.get(program)
    if served is None:
        names = ", ".join(inventory.programs) or "none"
        raise InventoryError(f"the inventory has no program {program}: it has {names}; give --program")
    if not served.address:
        raise InventoryError(f"the program {program} has no address that clients could use")
    return Service(served, port)


def may_harm(inventory: Inventory, given: str | None) -> None:
    """The operator names the cluster, on the command line or when asked. Raises RefusedError."""
    if given is None and sys.stdin.isatty():
        sys.stderr.write(f"This kills processes and machines of the cluster {inventory.cluster}. Its name, to go on: ")
        sys.stderr.flush()
        given = sys.stdin.readline().strip()
    if given is None:
        raise RefusedError(
            f"nothing was changed: say --yes-kill {inventory.cluster}, or --dry-run to see what would be"
        )
    if given != inventory.cluster:
        raise RefusedError(f"nothing was changed: the cluster of the inventory is {inventory.cluster}, not {given}")


def may_be_taken_over(served: Served, plan: Plan) -> None:
    """A program that is taken over too often is started without what it held, as its definition says, and that would
    look like a loss. Raises RefusedError."""
    strikes = sum(len(step.strikes) for step in plan.steps)
    if strikes > served.takeovers_max:
        raise RefusedError(
            f"nothing was changed: {served.program} is started without what it holds when it was taken over more than "
            f"{served.takeovers_max} times within its window, and this plan strikes {strikes} times: give it "
            "max_takeovers = 1000 in [failover] for as long as it is harmed, or take fewer seconds"
        )


def plan_of(options: argparse.Namespace, driver: str, has: frozenset[str]) -> Plan:
    """What is to be done. Raises PlanError, OSError."""
    if options.plan is not None:
        return Plan.parse(options.plan.read_text(), SITE_KINDS)
    there = possible(driver, has)
    wanted = options.only or list(there)
    if lacking := [kind for kind in wanted if kind not in there]:
        raise PlanError(f"not possible there: {', '.join(lacking)}")
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    return make_plan(seed, options.seconds, {kind: there[kind] for kind in wanted})


async def carry_out_there(options: argparse.Namespace, tell: Tell) -> Outcome | None:
    """A run; None after a dry one. Raises one of WRONG."""
    inventory = read_inventory(options.inventory, options.authority)
    service = service_of(inventory, options.program, options.port)
    if not options.dry_run:
        may_harm(inventory, options.yes_kill)
    directory = Path(tempfile.mkdtemp(prefix="kagemusha-chaos-"))
    site = Site(inventory, service, directory, SITE_FAULTS)
    judging = False
    try:
        await site.meet()
        plan = plan_of(options, service.served.driver, await site.probe())
        if options.dry_run:
            await _say_what_would_be(site, plan, tell)
            return None
        may_be_taken_over(service.served, plan)
        about = {"cluster": inventory.cluster, "program": options.program, "driver": service.served.driver}
        outcome = Outcome(plan, about, ours=False)
        tell(f"seed {plan.seed}: {len(plan.steps)} steps on the cluster {inventory.cluster}")
        judging = True
        await judged(lambda: site, outcome, directory / "logs", tell)
    finally:
        if not judging:
            await site.close()
            shutil.rmtree(directory)
    if options.keep or outcome.verdict != "kept":
        outcome.keep(directory)
    else:
        shutil.rmtree(directory)
    return outcome


async def _say_what_would_be(site: Site, plan: Plan, tell: Tell) -> None:
    """Who would be harmed now, and how; roles change while a plan is carried out."""
    roles, chance = await site.roles(), random.Random(plan.seed)
    for number, step in enumerate(plan.steps, start=1):
        for strike in step.strikes:
            harm = site.harm(strike.kind, roles.node_of(strike.target, chance), chance)
            where = f"{strike.kind} at the {strike.target} (now {harm.node}) for {step.for_s:g} s"
            tell(f"{number:3} {where}: {_line(site, harm)}")


def _line(site: Site, harm: object) -> str:
    if not isinstance(harm, SiteHarm):
        return ""
    words = harm.words()
    if not words:
        return "through the API"
    return f"{shlex.join(site.remotes[harm.node].command(*words))} < tests/chaos/deployed/node.sh"


WRONG = (InventoryError, RefusedError, PlanError, RemoteError, SceneError, DemoError, OSError)
"""What may be wrong before anything was done."""


def run_there(options: argparse.Namespace, tell: Tell) -> Outcome | None:
    """See `carry_out_there`."""
    return asyncio.run(carry_out_there(options, tell))
