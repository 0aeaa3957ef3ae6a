"""A step of the trial: schedules of harm over SSH on the three machines, as an operator would do it (docs/chaos.md)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

from tests.deploy.ansible import ROOT
from tests.deploy.errors import TrialError
from tests.deploy.shell import attempt
from tests.deploy.trial import Figures, Trial

CLUSTER: Final = "trial"
SEEDS_VARIABLE: Final = "KGM_CHAOS_SEEDS"
"""Which schedules: "1", "1-10" or "2,5-7"."""
SECONDS: Final = 40
_DEADLINE_S: Final = 900.0
_JOURNAL: Final = "journalctl --output short-iso-precise --since -30min --no-pager"


def harm(trial: Trial) -> Figures:
    """Everything that SSH allows is done to the cluster by a seed, under load; it keeps what it promises."""
    figures: Figures = {"kept": 0, "faults": 0, "acknowledged": 0, "lost": 0}
    failures = []
    for seed in seeds(os.environ.get(SEEDS_VARIABLE, "1")):
        found = _schedule(trial, seed)
        sys.stdout.write(f"    seed {seed}: {json.dumps(found)}\n")
        sys.stdout.flush()
        figures["kept"] += found["verdict"] == "kept"
        figures["faults"] += sum(found["faults"].values())
        figures["acknowledged"] += found["writes_acknowledged"]
        figures["lost"] += found["writes_lost"] or 0
        if found["verdict"] != "kept":
            _keep_journals(trial, Path(found["kept_in"]))
            failures.append(f"schedule {seed}: {found['verdict']}, see {found['kept_in']}")
        trial.await_mirrored(2)
    if failures:
        raise TrialError("; ".join(failures), hint=f"{figures}")
    return figures


def seeds(text: str) -> list[int]:
    """Those that are meant by numbers and ranges, separated by commas."""
    ranges = (part.partition("-") for part in text.split(","))
    return [seed for first, _, last in ranges for seed in range(int(first), int(last or first) + 1)]


def _schedule(trial: Trial, seed: int) -> Figures:
    """One of them; gives its figures."""
    inventory = trial.directory / "inventory.yml"
    words = ("--yes-kill", CLUSTER, "--seed", str(seed), "--seconds", str(SECONDS), "--json")
    command = trial.lan.command(sys.executable, "-m", "tests.chaos", "--inventory", str(inventory), *words)
    _, said = attempt(command, timeout_s=_DEADLINE_S, cwd=ROOT)
    line = next((line for line in said.splitlines() if line.startswith("{")), "")
    if not line:
        raise TrialError(f"schedule {seed}: {said.strip()[-1000:]}")
    figures: Figures = json.loads(line)
    return figures


def _keep_journals(trial: Trial, place: Path) -> None:
    """What the machines said, which are gone after the trial."""
    for name, machine in trial.machines.items():
        (place / f"journal-{name}.log").write_text(trial.ssh.attempt(machine, _JOURNAL)[1])
