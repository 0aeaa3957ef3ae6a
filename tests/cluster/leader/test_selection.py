from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.leader.selection import Held, select
from cluster.registry.values import InstanceEntry, MirrorMember, Policy, ProgramEntry
from transport.checkpoint import NOTHING, Version

NODES = ("n1", "n2", "n3")


def _entry() -> ProgramEntry:
    instances = [InstanceEntry(f"p@{node}", node, "mirror", "mirrored", 1) for node in NODES[1:]]
    primary = InstanceEntry("p@n1", "n1", "primary", "running", 1)
    return ProgramEntry("p", "/p.toml", "0" * 64, token=4, primary="n1", instances=(primary, *instances))


def _held(node: str, number: int = 10, captured_ns: int = 1000) -> Held:
    return Held(f"p@{node}", 1, "mirrored", Version(4, number, 7), captured_ns)


def _chosen(*mirrors: Held, entry: ProgramEntry | None = None, reachable: tuple[str, ...] = NODES) -> str | None:
    best = select(entry or _entry(), {one.instance: one for one in mirrors}, reachable, {}).best
    return None if best is None else best.instance


def test_the_newest_checkpoint_wins_over_everything_else() -> None:
    busy = replace(_held("n3", 11, 1050), load=0.9, latency_ms=80.0, unwell="it has no watchdog")
    assert _chosen(_held("n2"), busy) == "p@n3"


def test_a_checkpoint_of_a_later_primary_is_newer_whatever_its_number() -> None:
    assert _chosen(replace(_held("n2", 900, 9000), version=Version(3, 900, 7)), _held("n3", 1, 1)) == "p@n3"


def test_numbers_that_began_anew_do_not_mislead() -> None:
    assert _chosen(_held("n2", 900, 1000), _held("n3", 2, 2000)) == "p@n3"


@pytest.mark.parametrize("worse", [{"unwell": "keepalived is not running"}, {"load": 0.5}, {"latency_ms": 30.0}])
def test_of_equals_the_better_off_wins(worse: dict[str, object]) -> None:
    assert _chosen(replace(_held("n2"), **worse), _held("n3")) == "p@n3"  # type: ignore[arg-type]
    assert _chosen(_held("n2"), replace(_held("n3"), **worse)) == "p@n2"  # type: ignore[arg-type]


def test_of_the_very_same_the_first_id_wins() -> None:
    assert _chosen(_held("n3"), _held("n2")) == "p@n2"
    turned = replace(_entry(), instances=tuple(reversed(_entry().instances)))
    assert _chosen(_held("n3"), _held("n2"), entry=turned) == "p@n2"


def test_who_holds_the_same_checkpoint_holds_as_much_whatever_each_knows_of_its_age() -> None:
    busy = replace(_held("n2", captured_ns=2_000_000), load=0.8)
    assert _chosen(busy, _held("n3", captured_ns=1_000_000)) == "p@n3"
    choice = select(_entry(), {"p@n2": busy, "p@n3": _held("n3")}, NODES, {}, ["n2"])
    assert choice.because == "the node of p@n2, which holds as much, is drained"


@pytest.mark.parametrize("noise", [{"load": 0.04}, {"latency_ms": 0.9}])
def test_what_is_within_a_measurement_decides_nothing(noise: dict[str, object]) -> None:
    assert _chosen(replace(_held("n2"), **noise), _held("n3")) == "p@n2"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mirror", "why"),
    [
        (replace(_held("n2"), version=NOTHING), "no complete checkpoint"),
        (replace(_held("n2"), status="failed"), "is failed"),
        (replace(_held("n2"), status="stopped"), "is stopped"),
        (replace(_held("n2"), incarnation=0), "incarnation"),
        (replace(_held("n2"), version=Version(5, 1, 1)), "no primary up to token 4"),
    ],
)
def test_a_mirror_that_will_not_do_is_said_why(mirror: Held, why: str) -> None:
    choice = select(_entry(), {"p@n2": mirror}, NODES, {})
    assert choice.best is None
    assert why in choice.against["p@n2"]
    assert choice.against["p@n3"] == "has not said what it holds"


def test_a_mirror_that_was_tried_in_vain_or_can_not_be_reached_is_left_out() -> None:
    assert _chosen(_held("n2", 20, 2000), _held("n3"), reachable=("n1", "n3")) == "p@n3"
    choice = select(_entry(), {"p@n2": _held("n2")}, NODES, {"p@n2": "did not activate"})
    assert (choice.best, choice.against["p@n2"]) == (None, "did not activate")


def test_a_mirror_that_the_registry_calls_failed_is_left_out_until_it_is_another_incarnation() -> None:
    failed = InstanceEntry("p@n2", "n2", "mirror", "failed", 1, "no memory")
    entry = replace(_entry(), instances=(_entry().instances[0], failed))
    assert _chosen(_held("n2"), entry=entry) is None
    assert _chosen(replace(_held("n2"), incarnation=2), entry=entry) == "p@n2"


def test_under_sync_only_members_are_chosen() -> None:
    entry = replace(_entry(), policy=Policy("sync"), in_sync=(MirrorMember("p@n3", 1),))
    assert _chosen(_held("n2", 50, 5000), _held("n3"), entry=entry) == "p@n3"
    assert _chosen(_held("n2"), replace(_held("n3"), incarnation=2), entry=entry) is None


def test_what_the_primary_says_of_itself_makes_it_no_mirror() -> None:
    assert _chosen(_held("n1", 99, 9999)) is None


@pytest.mark.parametrize(
    ("mirror", "other", "because"),
    [
        ({"version": Version(4, 11, 7), "captured_ns": 70_000_000}, {}, "is 70 ms newer than that of p@n3"),
        ({"version": Version(4, 11, 7)}, {}, "its checkpoint is newer than that of p@n3"),
        ({}, {"version": Version(3, 99, 7)}, "of a later primary than that of p@n3"),
        ({}, {"unwell": "it has no watchdog"}, "p@n3, which holds as much, is not well: it has no watchdog"),
        ({"load": 0.1}, {"load": 0.75}, "less busy (10%) than that of p@n3 (75%)"),
        ({}, {"latency_ms": 30.0}, "nearer to the others (0 ms) than that of p@n3 (30 ms)"),
        ({}, {}, "its id comes first, and p@n3 holds as much"),
        ({}, {"status": "failed"}, "no other will do: p@n3 is failed"),
    ],
)
def test_a_choice_says_what_decided_it(mirror: dict[str, object], other: dict[str, object], because: str) -> None:
    both = [replace(_held("n2", captured_ns=0), **mirror), replace(_held("n3", captured_ns=0), **other)]  # type: ignore[arg-type]
    choice = select(_entry(), {one.instance: one for one in both}, NODES, {})
    assert choice.best is not None
    assert choice.best.instance == "p@n2"
    assert because in choice.because


def test_a_drained_node_and_a_lonely_mirror_are_named() -> None:
    both = {one.instance: one for one in (_held("n2"), _held("n3"))}
    assert "n2, which holds as much, is drained" in select(_entry(), both, NODES, {}, ["n2"]).because
    alone = replace(_entry(), instances=_entry().instances[:2])
    assert select(alone, both, NODES, {}).because == "it is the only mirror"
