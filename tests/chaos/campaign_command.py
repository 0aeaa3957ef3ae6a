"""`python -m tests.chaos --seeds 1-100`: one run after the other, each a process of its own, and a table in the end.

A campaign goes on after a violation. With --results it is written down run by run, and goes on where it was ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from kagemusha.demo.nodes import CHECKOUT
from tests.chaos.campaign import Figures, SeedsError, Summary, left_to_do, line_of, of_seeds, seeds_of

Tell = Callable[[str], None]
Run = Callable[[int], Figures]
_ENDS_S: Final = 600.0
_ENDS_FACTOR: Final = 10.0
"""A run of so many seconds that has not ended after ten times as long, and ten minutes, will not."""


def run_campaign(options: argparse.Namespace, tell: Tell) -> int:
    """Gives the exit status. tell: gets a line for each run, and the table. Raises SeedsError, OSError."""
    given = {"--seed": options.seed, "--plan": options.plan, "--inventory": options.inventory}
    given |= {"--shrink": options.shrink or None, "--soak": options.soak or None}
    for name, value in given.items():
        if value is not None:
            raise SeedsError(f"--seeds is for many runs on this machine, and {name} for one: leave one of them out")
    wanted = {"seconds": options.seconds, "program": options.program, "driver": options.driver}
    summary = campaign(seeds_of(options.seeds), wanted, options.results, lambda seed: _run(seed, options), tell)
    for line in summary.lines():
        tell(line)
    if options.json:
        tell(json.dumps(summary.document()))
    return summary.exit_code


def campaign(seeds: Sequence[int], wanted: Figures, results: Path | None, run: Run, tell: Tell) -> Summary:
    """Carry out what is not done yet. wanted: what the runs have in common. results: where runs are written down, one
    JSON object a line; None: nowhere. Raises SeedsError, OSError."""
    done = list(_read(results)) if results is not None else []
    todo = left_to_do(seeds, wanted, done)
    for one in of_seeds([seed for seed in seeds if seed not in todo], wanted, done):
        tell(f"{line_of(one)}; was done before")
    for seed in todo:
        one = {"seed": seed, **wanted, **run(seed)}
        done.append(one)
        if results is not None:
            with results.open("a") as file:
                file.write(json.dumps(one) + "\n")
        tell(line_of(one))
    return Summary(of_seeds(seeds, wanted, done))


def _read(results: Path) -> Iterator[dict[str, Any]]:
    lines = results.read_text().splitlines() if results.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
            yield {"verdict": found["verdict"], "seed": found["seed"], **found}
        except (ValueError, KeyError, TypeError):
            raise SeedsError(f"{results}, line {number}: no run of a campaign; give another file") from None


def _run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    words = ["--seed", str(seed), "--seconds", str(options.seconds), "--json"]
    words += ["--program", options.program, "--driver", options.driver]
    words += [word for kind in options.only or () for word in ("--only", kind)]
    words += ["--keep"] if options.keep else []
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.chaos", *words],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=_ENDS_S + _ENDS_FACTOR * options.seconds,
        )
        found = figures_of(ended.stdout, ended.returncode)
    except subprocess.TimeoutExpired:
        found = {"verdict": "broken", "broken": "it did not end, and was killed"}
    return {**found, "commit": _commit(), "load_average": round(os.getloadavg()[0], 1)}


def figures_of(said: str, status: int) -> dict[str, Any]:
    """What a run said in its last line; of one that said nothing that it is broken."""
    line = next(reversed(said.splitlines()), "")
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return {"verdict": "broken", "broken": f"it ended with status {status} and said nothing"}
    return found


def _commit() -> str:
    """Of the code, "+" for more than that; "" where it is no clone."""
    words = ("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty=+", "--exclude=*")
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
