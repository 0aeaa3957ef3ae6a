"""`make test-deploy`: the playbooks on three machines that boot, over SSH, step by step, with the figures of each step.

`ARGS=--only converge,remove` runs some of the steps (in their order; most need `converge`), `--keep` leaves
logs. The exit status is 0 when every step did what it must; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from tests.deploy.ansible import Operator
from tests.deploy.errors import TrialError
from tests.deploy.image import base_image
from tests.deploy.lan import Lan
from tests.deploy.machine import Ssh
from tests.deploy.refusals import REFUSALS
from tests.deploy.steps import STEPS
from tests.deploy.trial import NAMES, Figures, Trial, make_dist
from tests.leftovers import clear
from transport.errors import KagemushaError

ALL = (*REFUSALS, *STEPS)


def prepare(directory: Path) -> tuple[Trial, Figures]:
    """Three machines that have booted, and an operator."""
    start_s = time.monotonic()
    image, is_new = base_image()
    image_s = time.monotonic() - start_s
    dist = make_dist(directory, "0.1.0")
    lan = Lan()
    ssh = Ssh(lan, directory)
    trial = Trial(lan, ssh, image, directory, Operator(lan, ssh, directory, dist))
    try:
        start_s = time.monotonic()
        for number, name in enumerate(NAMES, 1):
            trial.add(name, number)
        for machine in trial.machines.values():
            ssh.await_boot(machine)
    except BaseException:
        trial.close()
        raise
    trial.operator.write_inventory(trial.machines)
    boot_s = time.monotonic() - start_s
    return trial, {"image_s": image_s, "image_was_cached": not is_new, "three_boots_s": boot_s}


def run(trial: Trial, wanted: list[str], report: dict[str, Figures]) -> None:
    """Run the steps; each says what it measured."""
    for step in ALL:
        if step.__name__ not in wanted:
            continue
        say(f"{step.__name__}: {(step.__doc__ or '').splitlines()[0]}")
        figures = step(trial)
        report[step.__name__] = figures = {
            key: round(value, 1) if isinstance(value, float) else value for key, value in figures.items()
        }
        say("    " + ", ".join(f"{key}={value}" for key, value in figures.items()))


def say(line: str) -> None:
    """A line of the story."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _terminated(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    """Run it; gives the exit status."""
    names = [step.__name__ for step in ALL]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(names), help=f"steps, separated by commas: {', '.join(names)}")
    parser.add_argument("--keep", action="store_true", help="leave the logs")
    given = parser.parse_args()
    wanted = given.only.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"no such step: {', '.join(unknown)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    clear()
    directory = Path(tempfile.mkdtemp(prefix=f"kgm-{os.getpid()}-deploy-"))
    report: dict[str, Figures] = {}
    start_s, status, trial = time.monotonic(), 0, None
    try:
        trial, report["prepare"] = prepare(directory)
        say(f"prepare: {json.dumps(report['prepare'])}")
        run(trial, wanted, report)
    except KagemushaError as error:
        say(f"FAILED: {error.what}" + (f"\nhint: {error.hint}" if error.hint else ""))
        status = 1
    finally:
        if trial is not None:
            trial.close()
        if given.keep:
            say(f"logs: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    say(json.dumps({"ok": status == 0, "took_s": round(time.monotonic() - start_s), "steps": report}))
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrialError as error:
        sys.exit(f"{error.what}\nhint: {error.hint}")
