"""A member whose disk takes long: what waits for it, and what doesn't. No network, a real journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.raft.errors import StorageError
from cluster.raft.times import Times
from cluster.raft.wire import Appended, AppendEntries, RequestVote, Vote
from tests.cluster.raft.bench import PEERS, Bench, monotonic_s


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, Times())
    yield made
    made.member.close()


def test_entries_are_acknowledged_when_they_are_durable_and_the_leader_is_heard_before(bench: Bench) -> None:
    bench.append(1, (1, 0))
    bench.disk_hangs = True
    assert bench.hear("b", AppendEntries(1, 2, 0, 1, 0, ((1, b"\x00x"),))) == []
    bench.now_s += 0.05
    assert bench.hear("b", AppendEntries(1, 3, 0, 2, 1, ())) == [Appended(1, 3, 0, False, False)]
    bench.sent.clear()
    bench.disk_hangs = False
    bench.write()
    assert bench.sent == [("b", Appended(1, 3, 3, True, False))]


def test_a_vote_leaves_when_it_is_durable(bench: Bench) -> None:
    bench.now_s += 1
    bench.disk_hangs = True
    assert bench.hear("c", RequestVote(3, 50, 2)) == []
    bench.disk_hangs = False
    bench.write()
    assert [type(message) for _, message in bench.sent] == [Vote]
    assert (bench.member._journal.getCurrentTerm(), bench.member._journal.getVotedForNodeId()) == (3, "c")


def test_a_candidate_asks_when_its_own_vote_is_durable_and_stands_once_meanwhile(bench: Bench) -> None:
    bench.disk_hangs = True
    bench.now_s += 1
    bench.member._SyncObj__raftElectionDeadline = monotonic_s()
    bench.tick()
    term = bench.member.term
    bench.member._SyncObj__raftElectionDeadline = monotonic_s() - 0.001
    bench.tick()
    assert bench.member.term == term
    assert bench.sent == []
    bench.disk_hangs = False
    bench.write()
    assert sorted(bench.sent) == [(peer, RequestVote(term, 1, 0)) for peer in PEERS]


def test_a_leader_is_heard_and_keeps_its_lease_while_its_disk_hangs(bench: Bench) -> None:
    term = bench.lead()
    bench.disk_hangs = True
    bench.member.submit(b"x", lambda applied, reason: None)
    for _ in range(20):
        bench.sent.clear()
        bench.now_s += bench.times.heartbeat_s
        bench.member._SyncObj__sendAppendEntries()
        number = bench.rounds("b")[-1].round
        bench.hear("b", Appended(term, number, 0, False, False))
    assert bench.rounds("b") or bench.member.has_quorum()
    assert bench.member.has_quorum()


def test_a_leader_counts_itself_for_what_its_disk_has(bench: Bench) -> None:
    term = bench.lead()
    bench.hear("b", Appended(term, 1, 3, True, False))
    bench.disk_hangs = True
    bench.member.submit(b"x", lambda applied, reason: None)
    bench.tick()
    bench.hear("b", Appended(term, 1, 4, True, False))
    assert bench.machine.commands == []
    bench.disk_hangs = False
    bench.write()
    bench.tick()
    assert bench.machine.commands == [b"x"]


def test_others_agree_without_the_leaders_disk(bench: Bench) -> None:
    term = bench.lead()
    bench.disk_hangs = True
    bench.member.submit(b"x", lambda applied, reason: None)
    bench.tick()
    for peer in PEERS:
        bench.hear(peer, Appended(term, 1, 4, True, False))
    assert bench.machine.commands == [b"x"]


def test_what_a_disk_refuses_ends_the_member(bench: Bench) -> None:
    bench.append(1, (1, 0))
    (bench.directory / "vote.new").mkdir()
    with pytest.raises(StorageError, match="vote: can't be written"):
        bench.hear("c", AppendEntries(2, 1, 0, 1, 0, ()))
    (bench.directory / "vote.new").rmdir()
    bench.disk._under_way = None
