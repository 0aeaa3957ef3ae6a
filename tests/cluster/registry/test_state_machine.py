from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from cluster.registry.commands import (
    Command,
    CreateProgram,
    DeleteProgram,
    EndExtension,
    Extend,
    Fenced,
    Ok,
    Pause,
    Promote,
    Rejected,
    Resume,
    SetInstance,
    SetInSync,
    SetNode,
    ShutDown,
    Started,
    TakeOffice,
    Unfence,
    decode_result,
    encode,
)
from cluster.registry.results import RESULTS_MAX
from cluster.registry.state_machine import Registry
from cluster.registry.values import Failure, MirrorMember, Policy, ProgramEntry
from transport.checkpoint import NOTHING, Version
from transport.control import InstanceStatus
from transport.errors import FrameError

DIGEST = "ab" * 32
HELD = Version(1, 9, 99)


def _accept(registry: Registry, command: Command) -> int | str:
    result = registry.apply(command)
    assert isinstance(result, Ok), result
    return result.value


def _refused(registry: Registry, command: Command) -> Rejected:
    before = dict(registry.programs)
    result = registry.apply(command)
    assert isinstance(result, Rejected), result
    assert registry.programs == before
    return result


def _registry(policy: Policy | None = None) -> Registry:
    """Three nodes, term 7, program p under token 1 on n1, its mirrors on n2 and n3 in incarnation 1."""
    registry = Registry()
    for node in ("n1", "n2", "n3"):
        _accept(registry, SetNode(f"node-{node}", node, "10.0.0.1:1", "10.0.0.1:2"))
    _accept(registry, TakeOffice("office-7", "n3", 7))
    _accept(registry, CreateProgram("create", "p", "/etc/p.toml", DIGEST, ("n1", "n2", "n3"), policy or Policy()))
    assert _accept(registry, Started("start", "p", 0, "p@n1", "", "created", 7)) == 1
    _accept(registry, SetInstance("up-1", "p", "p@n1", "primary", "running", 1, "", 7))
    for node in ("n2", "n3"):
        _accept(registry, _mirror(node, "mirrored", 1))
    return registry


def _mirror(node: str, status: InstanceStatus, incarnation: int) -> SetInstance:
    return SetInstance(f"mirror-{node}-{status}-{incarnation}", "p", f"p@{node}", "mirror", status, incarnation, "", 7)


FENCED = Fenced("fence", "p", 1, "n1", "f1", True, 7)
PROMOTE = Promote("promote", "p", 1, "p@n2", HELD, "f1", "node n1 is lost", 7, at_s=1000)


def _entry(registry: Registry) -> ProgramEntry:
    return registry.programs["p"]


def test_a_promotion_gives_the_next_token_and_the_roles() -> None:
    registry = _registry()
    _accept(registry, FENCED)
    assert _accept(registry, PROMOTE) == 2
    entry = _entry(registry)
    assert (entry.primary, entry.token, entry.fence, entry.takeovers) == ("n2", 2, None, (1000,))
    assert [(one.role, one.status) for one in entry.instances] == [
        ("mirror", "failed"),
        ("primary", "starting"),
        ("mirror", "mirrored"),
    ]
    assert entry.last_promotion is not None
    assert (entry.last_promotion.version, entry.last_promotion.fence_id) == (HELD, "f1")


def test_two_programs_do_not_share_what_only_one_can_have() -> None:
    registry = _registry(Policy(exclusive=("the address 10.0.0.100", "router_id 51 on eth0")))
    other = CreateProgram("q", "q", "/etc/q.toml", DIGEST, ("n1",), Policy(exclusive=("the address 10.0.0.100",)))
    refused = _refused(registry, other)
    assert (refused.code, refused.reason) == ("exists", "program p has the address 10.0.0.100 already")
    free = replace(other, request_id="q-2", policy=Policy(exclusive=("the address 10.0.0.101",)))
    assert _accept(registry, free) == "q"


def test_a_promotion_without_a_fence_is_refused() -> None:
    assert _refused(_registry(), PROMOTE).code == "fence"


def test_a_promotion_after_the_fence_was_released_is_refused() -> None:
    registry = _registry()
    _accept(registry, FENCED)
    _accept(registry, Unfence("unfence", "p", 1, "f1", 7))
    assert _refused(registry, PROMOTE).code == "fence"
    assert (_entry(registry).fence, _entry(registry).instances[0].status) == (None, "running")


def test_a_released_fence_gives_back_the_status_from_before() -> None:
    registry = _registry()
    _accept(registry, FENCED)
    _accept(registry, PROMOTE)
    _accept(registry, Fenced("again", "p", 2, "n2", "f2", False, 7))
    _accept(registry, Fenced("again, confirmed", "p", 2, "n2", "f2", True, 7))
    assert _entry(registry).instances[1].status == "fenced"
    _accept(registry, Unfence("unfence", "p", 2, "f2", 7))
    assert _entry(registry).instances[1].status == "starting"


def test_a_promotion_names_the_fence_that_stands() -> None:
    registry = _registry()
    _accept(registry, replace(FENCED, fence_id="other"))
    assert _refused(registry, PROMOTE).code == "fence"
    assert _refused(registry, replace(FENCED, request_id="second")).code == "fence"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"expected_token": 0}, "stale"),
        ({"expected_token": 2}, "stale"),
        ({"term": 6}, "stale"),
        ({"term": 8}, "stale"),
        ({"instance": "p@n1"}, "unfit"),
        ({"instance": "p@n9"}, "unknown"),
        ({"program": "q"}, "unknown"),
        ({"version": NOTHING}, "unfit"),
        ({"version": Version(2, 1, 1)}, "unfit"),
    ],
)
def test_a_promotion_must_fit_what_is_agreed(change: dict[str, Any], code: str) -> None:
    registry = _registry()
    _accept(registry, FENCED)
    assert _refused(registry, replace(PROMOTE, **change)).code == code


def test_a_failed_mirror_is_never_promoted() -> None:
    registry = _registry()
    _accept(registry, FENCED)
    _accept(registry, _mirror("n2", "failed", 1))
    assert _refused(registry, PROMOTE).code == "unfit"


def test_under_sync_only_a_member_in_its_incarnation_is_promoted() -> None:
    registry = _registry(Policy("sync"))
    _accept(registry, FENCED)
    assert _refused(registry, PROMOTE).code == "unfit"
    _accept(registry, SetInSync("set", "p", 1, (MirrorMember("p@n2", 1),), 7))
    _accept(registry, _mirror("n2", "mirrored", 2))
    assert _entry(registry).in_sync == ()
    assert _refused(registry, replace(PROMOTE, request_id="again")).code == "unfit"
    _accept(registry, SetInSync("set-2", "p", 1, (MirrorMember("p@n2", 2),), 7))
    assert _accept(registry, replace(PROMOTE, request_id="at last")) == 2


def test_a_member_of_the_in_sync_set_is_a_known_incarnation_of_a_mirror() -> None:
    registry = _registry()
    for number, (instance, incarnation) in enumerate([("p@n2", 2), ("p@n1", 1), ("p@n9", 1)]):
        _refused(registry, SetInSync(f"set-{number}", "p", 1, (MirrorMember(instance, incarnation),), 7))


def test_what_a_deposed_leader_had_on_its_way_is_refused() -> None:
    registry = _registry()
    _accept(registry, TakeOffice("office-8", "n2", 8))
    assert _refused(registry, FENCED).code == "stale"
    assert _refused(registry, TakeOffice("office-again", "n3", 7)).code == "stale"
    assert (registry.term, registry.leader) == (8, "n2")


def test_a_clean_start_needs_the_fence_of_the_primary_before() -> None:
    registry = _registry()
    start = Started("restart", "p", 1, "p@n1", "f1", "no mirror", 7)
    assert _refused(registry, start).code == "fence"
    _accept(registry, FENCED)
    assert _accept(registry, replace(start, request_id="restart-2")) == 2
    assert _entry(registry).primary == "n1"
    assert _entry(registry).takeovers == ()


def test_takeovers_are_counted_within_their_window() -> None:
    registry = _registry(Policy(takeovers_window_s=100))
    for token, at_s in ((1, 1000), (2, 1050), (3, 1120)):
        old, new = (("n1", "n2"), ("n2", "n1"), ("n1", "n2"))[token - 1]
        _accept(registry, Fenced(f"f-{token}", "p", token, old, f"f{token}", True, 7))
        _accept(registry, SetInstance(f"s-{token}", "p", f"p@{new}", "mirror", "mirrored", 5, "", 7))
        _accept(registry, Promote(f"p-{token}", "p", token, f"p@{new}", HELD, f"f{token}", "", 7, at_s=at_s))
    assert _entry(registry).takeovers == (1050, 1120)


def test_who_failed_last_is_remembered_and_a_person_is_no_failure() -> None:
    registry = _registry()
    assert _entry(registry).last_failure is None
    _accept(registry, FENCED)
    _accept(registry, SetInstance("s", "p", "p@n2", "mirror", "mirrored", 5, "", 7))
    _accept(registry, Promote("promote", "p", 1, "p@n2", HELD, "f1", "node n1 is lost", 7, at_s=1000))
    assert _entry(registry).last_failure == Failure("p@n1", "node n1 is lost", 1000)
    _accept(registry, Fenced("f2", "p", 2, "n2", "f2", True, 7))
    _accept(registry, Started("anew-1", "p", 2, "p@n2", "f2", "a person starts it", 7))
    assert _entry(registry).last_failure == Failure("p@n1", "node n1 is lost", 1000)
    _accept(registry, Fenced("f3", "p", 3, "n2", "f3", True, 7))
    _accept(registry, Started("anew-2", "p", 3, "p@n2", "f3", "no mirror: it ended", 7, at_s=2000))
    assert _entry(Registry.restore(registry.snapshot())).last_failure == Failure("p@n2", "no mirror: it ended", 2000)


def test_the_news_of_an_older_incarnation_are_refused() -> None:
    registry = _registry()
    _accept(registry, _mirror("n2", "syncing", 3))
    assert _refused(registry, _mirror("n2", "mirrored", 2)).code == "stale"
    assert _refused(registry, replace(_mirror("n2", "mirrored", 3), role="primary")).code == "stale"


@pytest.mark.parametrize(
    "change",
    [
        {"program_id": "p"},
        {"program_id": "Not One"},
        {"config_file": "relative"},
        {"config_digest": "short"},
        {"nodes": ()},
        {"nodes": ("n1", "n1")},
        {"nodes": ("n1", "n4")},
    ],
)
def test_a_program_that_can_not_be_created(change: dict[str, Any]) -> None:
    create = CreateProgram("second", "q", "/etc/q.toml", DIGEST, ("n1",))
    _refused(_registry(), replace(create, **change))


def test_a_program_that_may_still_serve_is_not_forgotten() -> None:
    registry = _registry()
    assert _refused(registry, DeleteProgram("d1", "p")).code == "unfit"
    _accept(registry, SetInstance("stop", "p", "p@n1", "primary", "stopped", 1, "", 7))
    _accept(registry, DeleteProgram("d2", "p"))
    _accept(registry, CreateProgram("create-2", "p", "/etc/p.toml", DIGEST, ("n1",)))
    assert _accept(registry, Started("start-2", "p", 1, "p@n1", "", "created", 7)) == 2


def test_for_whom_a_program_was_deleted_is_remembered() -> None:
    registry = _registry()
    _accept(registry, SetInstance("stop", "p", "p@n1", "primary", "stopped", 1, "", 7))
    assert not registry.was_deleted("p", "person")
    _accept(registry, DeleteProgram("d1", "p", "person"))
    _accept(registry, CreateProgram("create-2", "p", "/etc/p.toml", DIGEST, ("n1",)))
    for one in (registry, Registry.restore(registry.snapshot())):
        assert one.was_deleted("p", "person")
        assert not one.was_deleted("q", "person")
        assert not one.was_deleted("p", "other")
        assert not one.was_deleted("p", "create-2")
    # A name that stands for something else stays what it was.
    _accept(registry, DeleteProgram("d2", "p", "create-2"))
    assert not registry.was_deleted("p", "create-2")


def test_a_program_that_is_shut_down_is_so_until_it_is_started() -> None:
    registry = _registry()
    _accept(registry, ShutDown("down", "p"))
    assert _entry(Registry.restore(registry.snapshot())).shut_down
    assert _refused(registry, ShutDown("other", "none")).code == "unknown"
    _accept(registry, FENCED)
    assert _entry(registry).shut_down
    _accept(registry, Started("restart", "p", 1, "p@n1", "f1", "a person starts it", 7))
    assert not _entry(registry).shut_down


def test_maintenance_pauses_and_resumes() -> None:
    registry = _registry()
    _accept(registry, Pause("pause", "p"))
    assert _entry(registry).paused
    _accept(registry, Resume("resume", "p"))
    assert not _entry(registry).paused


def test_an_extended_lease_is_only_overridden_by_a_confirmed_fence() -> None:
    registry = _registry()
    _accept(registry, Extend("extend", "p", 1, 10))
    assert _refused(registry, replace(FENCED, request_id="silence", confirmed=False)).code == "fence"
    _accept(registry, FENCED)
    assert _refused(registry, Extend("extend-2", "p", 1, 10)).code == "fence"
    _accept(registry, PROMOTE)
    assert _entry(registry).extension is None


def test_an_extension_is_ended_by_its_name() -> None:
    registry = _registry()
    _accept(registry, Extend("extend", "p", 1, 10))
    _accept(registry, Extend("extend-2", "p", 1, 10))
    assert _refused(registry, EndExtension("end", "p", 1, "extend")).code == "stale"
    _accept(registry, EndExtension("end-2", "p", 1, "extend-2"))
    _accept(registry, replace(FENCED, confirmed=False))


def test_a_request_id_belongs_to_one_command() -> None:
    registry = _registry()
    assert _refused(registry, DeleteProgram("create", "p")).code == "conflict"
    assert _refused(registry, DeleteProgram("", "p")).code == "invalid"


def test_what_is_remembered_is_bounded() -> None:
    registry = _registry()
    for number in range(RESULTS_MAX + 10):
        registry.apply(Pause(f"pause-{number}", "nothing"))
    assert len(Registry.restore(registry.snapshot())._results.all()) == RESULTS_MAX


def test_bytes_that_are_no_command_change_nothing() -> None:
    registry = _registry()
    before = registry.programs["p"]
    result = decode_result(registry.apply_bytes(b"\xff\x00"))
    assert isinstance(result, Rejected)
    assert result.code == "invalid"
    assert decode_result(registry.apply_bytes(encode(DeleteProgram("d", "x" * 30_000)))) is not None
    assert registry.programs["p"] == before


def test_bytes_that_are_no_snapshot_are_refused() -> None:
    registry = _registry()
    before = registry.snapshot()
    with pytest.raises(FrameError):
        registry.load(before[:-1])
    assert registry.snapshot() == before


NODES = ("n1", "n2", "n3")
SMALL = st.integers(0, 6)
PROGRAM = st.sampled_from(["p", "q"])
NODE = st.sampled_from(NODES)
FENCE_ID = st.sampled_from(["f1", "f2", "f3"])
TERM = st.integers(7, 9)
VERSION = st.builds(Version, st.integers(0, 4), st.integers(1, 3), st.just(5))
STATUS = st.sampled_from(["starting", "running", "mirrored", "failed", "stopped"])


def _on(program: str, node: str) -> str:
    return f"{program}@{node}"


INSTANCE = st.builds(_on, PROGRAM, NODE)
REQUEST = st.integers(0, 10_000).map(lambda number: f"r{number}")
COMMANDS = st.one_of(
    st.builds(TakeOffice, REQUEST, NODE, TERM),
    st.builds(CreateProgram, REQUEST, PROGRAM, st.just("/f"), st.just(DIGEST), st.just(NODES)),
    st.builds(DeleteProgram, REQUEST, PROGRAM),
    st.builds(SetInstance, REQUEST, PROGRAM, INSTANCE, st.just("mirror"), STATUS, SMALL, st.just(""), TERM),
    st.builds(SetInstance, REQUEST, PROGRAM, INSTANCE, st.just("primary"), STATUS, SMALL, st.just(""), TERM),
    st.builds(Fenced, REQUEST, PROGRAM, SMALL, NODE, FENCE_ID, st.booleans(), TERM),
    st.builds(Unfence, REQUEST, PROGRAM, SMALL, FENCE_ID, TERM),
    st.builds(Promote, REQUEST, PROGRAM, SMALL, INSTANCE, VERSION, FENCE_ID, st.just("x"), TERM, st.integers(0, 9)),
    st.builds(Started, REQUEST, PROGRAM, SMALL, INSTANCE, st.sampled_from(["", "f1", "f2", "f3"]), st.just("x"), TERM),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Command]:
    """Commands of which many are meant well: they expect a token that may be there, in a term that may be there."""
    return draw(st.lists(COMMANDS, min_size=1, max_size=120))


@settings(max_examples=150, deadline=None)
@given(histories())
def test_tokens_strictly_rise_and_none_is_granted_twice(history: list[Command]) -> None:
    registry = _registry()
    _accept(registry, FENCED)
    granted: dict[str, list[int]] = {"p": [1], "q": []}
    seen: set[str] = set()
    for command in history:
        fences = {name: entry.fence for name, entry in registry.programs.items()}
        result = registry.apply(command)
        if isinstance(command, Promote | Started) and isinstance(result, Ok) and command.request_id not in seen:
            granted[command.program].append(int(result.value))
            fence = fences[command.program]
            assert command.fence_id == (fence.fence_id if fence else "")
            assert fence is not None or isinstance(command, Started)
        seen.add(command.request_id)
        for name, entry in registry.programs.items():
            assert entry.token >= max(granted[name], default=0)
            assert entry.fence is None or entry.fence.token == entry.token
            assert [one.node for one in entry.instances if one.role == "primary"] == [entry.primary] * bool(
                entry.primary
            )
    for tokens in granted.values():
        assert tokens == sorted(set(tokens))


@settings(max_examples=100, deadline=None)
@given(histories(), st.data())
def test_once_more_is_no_more_and_a_restored_registry_goes_on_alike(
    history: list[Command], data: st.DataObject
) -> None:
    """One registry gets every command once, another gets some again at any time and is restored on the way."""
    once, often = _registry(), _registry()
    results: dict[str, object] = {}
    for number, command in enumerate(history):
        command = replace(command, request_id=f"h{number}")
        results[command.request_id] = once.apply(command)
        assert often.apply(command) == results[command.request_id]
        if data.draw(st.booleans()):
            again = data.draw(st.integers(0, number))
            repeated = replace(history[again], request_id=f"h{again}")
            assert often.apply(repeated) == results[repeated.request_id]
        if data.draw(st.integers(0, 9)) == 0:
            often = Registry.restore(often.snapshot())
    assert once.programs == often.programs
    assert once.nodes == often.nodes
    assert (once.term, once.leader) == (often.term, often.leader)


def test_equal_histories_give_equal_bytes() -> None:
    assert _registry().snapshot() == _registry().snapshot()
    assert Registry.restore(_registry().snapshot()).snapshot() == _registry().snapshot()
