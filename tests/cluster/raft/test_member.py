"""Three members over loopback and mutual TLS: agreement, elections, partitions, restarts, snapshots, refusals."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cluster.raft.errors import (
    ApplyFailed,
    CommandTooLong,
    DirectoryInUse,
    NoQuorum,
    StorageError,
    UnknownOutcome,
)
from cluster.raft.times import Times
from cluster.raft.wire import COMMAND_BYTES_MAX
from tests.cluster.raft.group import DEADLINE_S, NODES, Counter, Group, free_ports, three
from transport.clock import boottime_s
from transport.errors import ConfigError, PeerRefused

WAIT_S = 10.0


async def test_what_is_agreed_is_applied_everywhere_in_the_same_order(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        proposals = [
            group.members[node].propose(f"{node}-{number}".encode(), WAIT_S) for number in range(50) for node in NODES
        ]
        places = await asyncio.gather(*proposals)
        assert sorted(map(int, places)) == list(range(1, 151))
        await group.equal()
        assert len(group.machines["a"].commands) == 150


async def test_any_member_may_be_asked_and_has_applied_what_it_answers(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        for node in NODES:
            assert await group.members[node].propose(node.encode(), WAIT_S) == str(NODES.index(node) + 1).encode()
            assert group.machines[node].commands[-1] == node.encode()
        assert await group.members["a"].propose(b"b", WAIT_S) == b"2"


async def test_the_longest_command_is_agreed_and_a_longer_one_refused(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        leader = await group.elected()
        for node in (leader, group.followers(leader)[0]):
            await group.members[node].propose(node.encode() + bytes(COMMAND_BYTES_MAX - 1), WAIT_S)
            with pytest.raises(CommandTooLong, match="32769 bytes; at most 32768"):
                await group.members[node].propose(bytes(COMMAND_BYTES_MAX + 1), WAIT_S)
        many = [group.members[leader].propose(bytes([n]) + bytes(COMMAND_BYTES_MAX - 1), WAIT_S) for n in range(20)]
        await asyncio.gather(*many)
        await group.equal()


async def test_a_state_machine_that_raises_stops_nothing(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        for node in NODES:
            with pytest.raises(ApplyFailed, match="ValueError: told to"):
                await group.members[node].propose(b"raise", WAIT_S)
        assert await group.members["a"].propose(b"next", WAIT_S) == b"1"
        await group.equal()


async def test_the_leader_is_replaced_and_comes_back_as_a_follower(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        old = await group.elected()
        await group.members[old].propose(b"before", WAIT_S)
        await group.stop(old)
        others = group.followers(old)
        assert await group.members[others[0]].propose(b"after", WAIT_S) == b"2"
        new = await group.elected(*others)
        assert new != old
        await group.start(old)
        await group.equal()
        assert group.machines[old].commands == [b"before", b"after"]


async def test_a_restart_of_all_keeps_everything(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        for number in range(20):
            await group.members["b"].propose(str(number).encode(), WAIT_S)
        term = group.members["b"].leadership().term
        await group.stop()
        await group.start()
        await group.elected()
        assert await group.members["a"].propose(b"20", WAIT_S) == b"21"
        await group.equal()
        assert group.machines["c"].commands == [str(number).encode() for number in range(21)]
        assert group.members["b"].leadership().term > term


async def test_a_leader_that_is_cut_off_loses_its_lease_before_another_has_one(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        old = await group.elected()
        others = group.followers(old)
        await group.members[old].propose(b"before", WAIT_S)
        group.cut(old)
        cut_s = boottime_s()
        new = await group.elected(*others)
        # `leader` looks at all members: never two.
        await group.until(lambda: group.leader() == new)
        ends = group.members[old].leadership().lease_until_s
        assert ends is None or ends <= cut_s + group.times.leader_lease_s
        with pytest.raises(NoQuorum, match="no quorum: 1 of 3 nodes in reach, 1 more needed; not in reach: ") as caught:
            await group.members[old].propose(b"minority", 0.5)
        assert caught.value.missing == 1
        assert caught.value.absent == tuple(others)
        assert await group.members[new].propose(b"majority", WAIT_S) == b"2"
        group.heal()
        await group.equal()
        assert group.machines[old].commands == [b"before", b"majority"]


async def test_what_a_leader_took_before_it_knew_that_it_was_cut_off_has_an_unknown_outcome(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        old = await group.elected()
        group.cut(old)
        with pytest.raises(UnknownOutcome, match="may still be agreed"):
            await group.members[old].propose(b"in between", 0.5)
        new = await group.elected(*group.followers(old))
        await group.members[new].propose(b"majority", WAIT_S)
        group.heal()
        await group.equal()
        assert group.machines[old].commands == [b"majority"]


async def test_a_follower_that_hears_nothing_does_not_depose_the_leader(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        leader = await group.elected()
        deaf, other = group.followers(leader)
        term = group.members[leader].leadership().term
        group.cut(deaf, outgoing=False)
        await group.until(lambda: group.members[deaf].leadership().term > term + 2)
        assert group.leader(leader) == leader
        assert group.members[leader].leadership().term == term
        assert group.members[other].leadership().leader == leader
        await group.members[other].propose(b"meanwhile", WAIT_S)
        with pytest.raises(NoQuorum):
            await group.members[deaf].propose(b"deaf", 0.5)
        group.heal()
        await group.equal()
        await group.members[deaf].propose(b"healed", WAIT_S)


async def test_a_follower_that_nobody_hears_follows_on(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        leader = await group.elected()
        mute, other = group.followers(leader)
        group.cut(mute, incoming=False)
        await group.members[other].propose(b"meanwhile", WAIT_S)
        assert group.leader(leader) == leader
        group.heal()
        await group.equal()


async def test_a_leader_that_hears_nothing_gives_up(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        deaf = await group.elected()
        others = group.followers(deaf)
        group.cut(deaf, outgoing=False)
        new = await group.elected(*others)
        await group.until(lambda: group.leader() == new)
        await group.members[new].propose(b"without", WAIT_S)
        group.heal()
        await group.equal()


async def test_without_a_majority_nothing_is_agreed_and_it_says_what_is_missing(tmp_path: Path) -> None:
    group = Group(tmp_path)
    group.open_ways()
    try:
        await group.start("b")
        with pytest.raises(NoQuorum) as caught:
            await group.members["b"].propose(b"alone", 0.7)
        assert caught.value.what == "no quorum: 1 of 3 nodes in reach, 1 more needed; not in reach: a, c"
        assert group.leader() is None
        await group.start("c")
        assert await group.members["b"].propose(b"together", WAIT_S) == b"1"
    finally:
        await group.close()


async def test_a_proposal_waits_for_an_election(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        assert await group.members["c"].propose(b"early", WAIT_S) == b"1"
        leader = await group.elected()
        follower = group.followers(leader)[0]
        await group.stop(leader)
        assert await group.members[follower].propose(b"during", WAIT_S) == b"2"


async def test_a_snapshot_replaces_the_journal_and_brings_a_late_follower_up(tmp_path: Path) -> None:
    async with three(tmp_path, Times(compact_entries=20)) as group:
        leader = await group.elected()
        late, other = group.followers(leader)
        await group.members[leader].propose(b"first", WAIT_S)
        await group.equal()
        await group.stop(late)
        for number in range(100):
            await group.members[other].propose(str(number).encode(), WAIT_S)
        assert (tmp_path / f"data-{leader}" / "snapshot").exists()
        await group.start(late)
        await group.equal()
        assert group.machines[late].restored >= 1
        await group.members[late].propose(b"on", WAIT_S)
        # And all of it again from the disk.
        before = group.machines[late].commands
        await group.stop()
        await group.start()
        await group.members["a"].propose(b"again", WAIT_S)
        await group.equal()
        assert group.machines["a"].commands == [*before, b"again"]


async def test_a_snapshot_of_many_pieces_arrives(tmp_path: Path) -> None:
    async with three(tmp_path, Times(compact_entries=20)) as group:
        leader = await group.elected()
        late = group.followers(leader)[0]
        await group.stop(late)
        big = [bytes([number]) * COMMAND_BYTES_MAX for number in range(80)]
        await asyncio.gather(*(group.members[leader].propose(command, WAIT_S) for command in big))
        await group.start(late)
        await group.equal()
        assert group.machines[late].restored == 1


async def test_a_follower_that_lags_a_little_catches_up_from_the_journal(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        leader = await group.elected()
        late = group.followers(leader)[0]
        group.cut(late)
        for number in range(300):
            await group.members[leader].propose(str(number).encode(), WAIT_S)
        group.heal()
        await group.equal()
        assert group.machines[late].restored == 0


async def test_one_member_alone_is_a_group(tmp_path: Path) -> None:
    group = Group(tmp_path)
    member, _ = group.make("a", others=())
    await member.start()
    try:
        assert await member.propose(b"one", WAIT_S) == b"1"
        assert member.leadership().leader == "a"
    finally:
        await member.close()


async def test_a_full_disk_stops_the_member_with_one_line_and_the_others_go_on(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        leader = await group.elected()
        await group.members[leader].propose(b"before", WAIT_S)
        consensus = group.members[leader]._consensus
        assert consensus is not None
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, consensus._journal._file.descriptor)
        os.close(full)
        with pytest.raises(StorageError, match="No space left on device"):
            await group.members[leader].propose(b"no room", WAIT_S)
        assert "No space left on device" in (await group.members[leader].failed()).what
        assert group.members[leader].leadership().lease_until_s is None
        others = group.followers(leader)
        await group.members[others[0]].propose(b"after", WAIT_S)
        await group.equal(*others)


async def test_a_directory_has_one_daemon(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        second, _ = group.make("a")
        with pytest.raises(DirectoryInUse, match=f"is in use by the daemon with process id {os.getpid()}"):
            await second.start()
        assert await group.members["a"].propose(b"undisturbed", WAIT_S) == b"1"


async def test_a_directory_has_one_node_and_one_cluster(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        await group.stop("a", "b")
        for member, whose in (
            (group.make("b", directory="data-a")[0], "node a of cluster 'test', not of b of 'test'"),
            (group.make("a", cluster="prod")[0], "node a of cluster 'test', not of a of 'prod'"),
        ):
            with pytest.raises(DirectoryInUse, match=whose):
                await member.start()


async def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        second, _ = group.make("a", directory="data-second")
        with pytest.raises(PeerRefused, match=f"can't listen on 127.0.0.1:{group.ports['a']}: Address already in use"):
            await second.start()


@pytest.mark.parametrize("node", ["a", "c"])
@pytest.mark.parametrize(
    ("cluster", "epoch", "layout", "line"),
    [
        ("prod", 1, "", "cluster "),
        ("test", 2, "", "configuration epoch "),
        ("test", 1, "elsewhere", "[[nodes]] differ "),
    ],
    ids=["cluster", "epoch", "layout"],
)
async def test_a_node_of_another_configuration_is_not_let_in(
    tmp_path: Path, node: str, cluster: str, epoch: int, layout: str, line: str
) -> None:
    async with three(tmp_path) as group:
        await group.stop(node)
        stranger, machine = group.make(node, cluster=cluster, epoch=epoch, layout=layout, directory="data-stranger")
        await stranger.start()
        try:
            await group.until(lambda: line in stranger.troubles.get("b", ""))
            await group.until(lambda: node in group.members["b"].troubles)
            with pytest.raises(NoQuorum) as caught:
                await stranger.propose(b"let me in", 0.5)
            assert line in caught.value.hint
            assert machine.commands == []
            assert await group.members["b"].propose(b"undisturbed", WAIT_S) == b"1"
        finally:
            await stranger.close()


@pytest.mark.parametrize("node", NODES)
async def test_a_second_daemon_with_the_same_node_id_is_not_let_in(tmp_path: Path, node: str) -> None:
    async with three(tmp_path) as group:
        await group.elected()
        port = group.ports[node]
        twin, machine = group.make(node, directory="data-twin", port=_other_port(port))
        await twin.start()
        try:
            peers = [peer for peer in NODES if peer != node]
            await group.until(lambda: all(f"two daemons run as node {node}" in twin.troubles.get(p, "") for p in peers))
            assert machine.commands == []
            assert await group.members[node].propose(b"undisturbed", WAIT_S) == b"1"
        finally:
            await twin.close()


def _other_port(port: int) -> int:
    return next(free for free in free_ports(2) if free != port)


async def test_a_certificate_of_another_node_is_refused(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        with pytest.raises(ConfigError, match="this is node b, but its certificate is of node a"):
            group.make("b", certificate="a")


async def test_a_closed_member_answers_that_it_is_closed(tmp_path: Path) -> None:
    async with three(tmp_path) as group:
        leader = await group.elected()
        group.cut(leader)
        member = group.members[leader]
        proposal = asyncio.create_task(member.propose(b"late", DEADLINE_S))
        await asyncio.sleep(0)
        await group.stop(leader)
        with pytest.raises(UnknownOutcome, match="stops"):
            await proposal


def test_a_counter_is_restored_as_it_was() -> None:
    machine, other = Counter(), Counter()
    for command in (b"one", b"", b"two"):
        machine.apply(command)
    other.restore(machine.snapshot())
    assert other.commands == machine.commands
