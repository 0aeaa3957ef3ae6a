"""A step of the trial: schedules of harm over SSH on the three machines, as an operator would do it (docs/chaos.md)."""

from __future__ import annotations

import json
import os
import sys
from typing import Final

from tests.deploy.ansible import ROOT
from tests.deploy.errors import TrialError
from tests.deploy.shell import attempt
from tests.deploy.trial import Figures, Trial

CLUSTER: Final = "trial"
SEEDS_VARIABLE: Final = "KGM_CHAOS_SEEDS"
"""Which schedules: "1" or "1-10"."""
SECONDS: Final = 40
_DEADLINE_S: Final = 900.0


def harm(trial: Trial) -> Figures:
    """Everything that SSH allows is done to the cluster by a seed, under load; it keeps what it promises."""
    first, _, last = os.environ.get(SEEDS_VARIABLE, "1").partition("-")
    figures: Figures = {"kept": 0, "faults": 0, "acknowledged": 0, "lost": 0}
    for seed in range(int(first), int(last or first) + 1):
        found = _schedule(trial, seed)
        if found["verdict"] != "kept":
            raise TrialError(f"schedule {seed}: {json.dumps(found)}", hint=f"see {found['kept_in']}")
        figures["kept"] += 1
        figures["faults"] += sum(found["faults"].values())
        figures["acknowledged"] += found["writes_acknowledged"]
        figures["lost"] += found["writes_lost"]
    trial.await_mirrored(2)
    return figures


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
