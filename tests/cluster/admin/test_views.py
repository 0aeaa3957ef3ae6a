"""What the API says of what the cluster knows."""

from __future__ import annotations

import dataclasses

from cluster.admin.views import Served, instance_view, node_views, program_view, view_without_agent
from cluster.node.messages import Load
from cluster.registry.values import (
    Failure,
    Fence,
    InstanceEntry,
    MirrorMember,
    NodeEntry,
    Policy,
    ProgramEntry,
    Promotion,
)
from tests.transport.sample_status import VERSION, sample_status
from transport.checkpoint import NOTHING

ENTRY = ProgramEntry(
    "redis",
    "/etc/kagemusha/redis.toml",
    "d" * 64,
    token=2,
    primary="a",
    instances=(
        InstanceEntry("redis@a", "a", "primary", "mirrored"),
        InstanceEntry("redis@b", "b", "mirror", "mirrored", 3),
    ),
    in_sync=(MirrorMember("redis@b", 3),),
    last_promotion=Promotion(2, "redis@a", VERSION, "f", "node b was lost", "r"),
    takeovers=(1000,),
    policy=Policy(guarantee="sync"),
)

STATUS = sample_status()


def test_a_program() -> None:
    view = program_view(ENTRY, None)
    assert (view.primary, view.guarantee, view.takeovers, view.fenced) == ("a", "sync", 1, False)
    assert [one.in_sync for one in view.instances] == [False, True]
    assert view.last_promotion is not None
    assert view.last_promotion.checkpoint is not None
    assert view.last_promotion.checkpoint.digest == "0000000000000005"
    assert (view.last_promotion.served_at, view.last_promotion.timeline) == (None, ())


def test_how_long_the_last_takeover_took() -> None:
    served = Served("2026-01-02T03:04:05.678901Z", (("detect_us", 5), ("agree_us", -1), ("go", 7)))
    promotion = program_view(ENTRY, served).last_promotion
    assert promotion is not None
    assert promotion.served_at == served.at
    assert [(one.name, one.took_us) for one in promotion.timeline] == [("detect", 5), ("agree", 0), ("go", 7)]


def test_a_program_that_has_never_run() -> None:
    view = program_view(ProgramEntry("redis", "/x", "d" * 64), None)
    assert (view.primary, view.last_promotion, view.instances) == (None, None, ())


def test_an_instance() -> None:
    view = instance_view(ENTRY, STATUS, 12.0)
    assert (view.instance, view.node, view.lag_ms, view.lease_age_ms) == ("redis@a", "a", 51.5, 12.0)
    assert view.mirrors[0].sync is not None
    assert view.mirrors[0].sync.total_bytes == 40


def test_an_instance_that_holds_nothing_is_not_years_old() -> None:
    status = dataclasses.replace(STATUS, version=NOTHING, lag_ms=1e12, mirrors=())
    view = instance_view(ENTRY, status, None)
    assert (view.checkpoint, view.lag_ms) == (None, None)


def test_a_fence_is_shown_though_the_agent_knows_nothing_of_it() -> None:
    fenced = dataclasses.replace(
        ENTRY,
        fence=Fence("f", 2, "a", True),
        instances=(dataclasses.replace(ENTRY.instances[0], status="fenced", reason="its lease ran out"),),
    )
    view = instance_view(fenced, STATUS, None)
    assert (view.status, view.reason) == ("fenced", "its lease ran out")
    assert program_view(fenced, None).fenced


def test_nodes() -> None:
    nodes = {name: NodeEntry(name, f"{name}:1", f"{name}:2") for name in ("b", "a")}
    views = node_views(nodes, [ENTRY], {"a": 12.0}, ["a"], "a", {"a": Load(0.5, 1 << 30)})
    assert [(one.node, one.alive, one.leader, one.heartbeat_age_ms) for one in views] == [
        ("a", True, True, 12.0),
        ("b", False, False, None),
    ]
    assert views[1].instances == ("redis@b",)
    assert views[1].cpu is None


def test_the_last_failure_of_a_program_is_shown_whichever_instance_it_was() -> None:
    failed = dataclasses.replace(ENTRY, last_failure=Failure("redis@b", "node b is lost", 60))
    for view in (view_without_agent(failed, "redis@a", "no agent"), view_without_agent(failed, "redis@b", "no agent")):
        assert view.last_failure is not None
        assert (view.last_failure.instance, view.last_failure.at) == ("redis@b", "1970-01-01T00:01:00Z")
    assert view_without_agent(ENTRY, "redis@a", "no agent").last_failure is None


def test_who_waits_for_its_address_is_no_mirror_any_more() -> None:
    """Its agent knows nothing of it: that it is to serve, and why it does not, is agreed."""
    waits = dataclasses.replace(ENTRY.instances[0], status="starting", reason="10.0.0.100 is used by somebody")
    entry = dataclasses.replace(ENTRY, instances=(waits, ENTRY.instances[1]))
    view = instance_view(entry, dataclasses.replace(STATUS, role="mirror", reason="", instance="redis@a"), None)
    assert (view.role, view.status, view.reason) == ("primary", "starting", waits.reason)
