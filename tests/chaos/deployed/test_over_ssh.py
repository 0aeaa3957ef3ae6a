"""The same harm over SSH: on three nodes that are reached as real machines are, from a client's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.deployed.over_ssh import Reached, reached
from tests.chaos.plan import Plan, Step, Strike

pytestmark = pytest.mark.nodes

KINDS = ("switched-over", "program-killed", "isolated")
TARGETS = ("mirror", "primary", "mirror")
"""Where nothing may be lost: a node that is isolated while it serves may lose what is newer than its staleness."""
PLAN = Plan(
    1,
    tuple(Step((Strike(kind, target),), 0.5, 0.1) for kind, target in zip(KINDS, TARGETS, strict=True)),  # type: ignore[arg-type]
)


async def processes(place: Reached) -> list[int]:
    """Of the program and its doubles."""
    return [place.scene.pid(name, "program") for name in place.scene.nodes]


async def test_a_deployed_cluster_is_harmed_by_whoever_names_it_and_keeps_everything(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(PLAN.text())
    async with reached() as place:
        before = await processes(place)
        # Whoever does not name it, and whoever only asks, changes nothing.
        status, _, said = await place.chaos("--plan", str(plan), "--yes-kill", "another")
        assert (status, "nothing was changed" in said) == (2, True), said
        other = tmp_path / "other.yml"
        other.write_text(place.inventory.read_text().replace(place.cluster, "another"))
        status, _, said = await place.chaos("--inventory", str(other), "--plan", str(plan), "--yes-kill", "another")
        assert (status, f"the cluster calls itself {place.cluster}" in said) == (2, True), said
        status, _, said = await place.chaos("--plan", str(plan), "--dry-run")
        assert status == 0, said
        for kind, word in zip(KINDS, ("through the API", "kill-pid", "cut"), strict=True):
            assert any(kind in line and word in line for line in said.splitlines()), said
        assert await processes(place) == before

        status, out, said = await place.chaos("--plan", str(plan), "--yes-kill", place.cluster, "--json")
        figures = json.loads(out)
        assert (status, figures["verdict"]) == (0, "kept"), (figures, said)
        assert sorted(figures["faults"]) == sorted(KINDS)
        assert figures["writes_lost"] == 0
        assert await processes(place) != before
