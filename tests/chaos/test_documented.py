"""docs/chaos.md names every fault and every checker, and says of each fault what it may cost."""

from __future__ import annotations

import re
from pathlib import Path

from tests.chaos.checkers.all import CHECKERS
from tests.chaos.deployed.faults import SITE_KINDS
from tests.chaos.faults.all import FAULTS

TEXT = (Path(__file__).parents[2] / "docs/chaos.md").read_text()
HERE, _, DEPLOYED = TEXT.partition("## Faults")[2].partition("## A cluster that is deployed")


def test_each_fault_has_a_row_that_says_what_it_may_cost() -> None:
    costs: dict[str, str] = {}
    for line in (line for line in HERE.splitlines() if line.startswith("| `")):
        first, *_, last = line.strip("|").split("|")
        costs.update(dict.fromkeys(re.findall(r"`([a-z-]+)`", first), last.strip()))
    assert costs == {kind: fault.loses for kind, fault in FAULTS.items()}


def test_each_fault_on_a_deployed_cluster_and_each_checker_is_named() -> None:
    assert [kind for kind in SITE_KINDS if f"`{kind}`" not in DEPLOYED] == []
    assert [checker.__name__ for checker in CHECKERS if f"`{checker.__name__}`" not in TEXT] == []
