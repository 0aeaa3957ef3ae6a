"""The guards, one by one, on a single member that is told what its peers say: no network, a real journal.

Where the guard is taken away, stock pysyncobj loses or invents agreement; docs/raft.md says how.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster.raft.errors import StorageError
from cluster.raft.machine import Applied
from cluster.raft.snapshots import Snapshot
from cluster.raft.storage import sealed
from cluster.raft.times import Times
from cluster.raft.wire import (
    Appended,
    InstallSnapshot,
    NotProposed,
    Propose,
    Proposed,
    RequestVote,
    Vote,
)
from tests.cluster.raft.bench import NOTHING, PEERS, Bench, monotonic_s
from tests.cluster.raft.group import Counter


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, Times())
    yield made
    made.member.close()


# Follower


def test_entries_are_appended_and_applied_once_agreed(bench: Bench) -> None:
    assert bench.append(1, (1, 0), "x", "y", commit=2) == Appended(1, 1, 4, True, False)
    assert bench.machine.commands == [b"x"]
    assert bench.append(1, (3, 1), commit=3).next_index == 4
    assert bench.machine.commands == [b"x", b"y"]


def test_entries_that_match_are_not_cut_by_an_older_message(bench: Bench) -> None:
    bench.append(1, (1, 0), "x", "y", "z")
    assert bench.append(1, (1, 0), "x") == Appended(1, 1, 3, True, False)
    assert [entry[0] for entry in bench.log()] == [NOTHING, b"\x00x", b"\x00y", b"\x00z"]


def test_an_empty_heartbeat_says_nothing_of_entries_after_it(bench: Bench) -> None:
    bench.append(1, (1, 0), "x", "y")
    assert bench.append(2, (2, 1)) == Appended(2, 1, 3, True, False)


def test_entries_that_conflict_are_replaced(bench: Bench) -> None:
    bench.append(1, (1, 0), "x", "y")
    bench.append(2, (2, 1), "other")
    assert [entry[0] for entry in bench.log()] == [NOTHING, b"\x00x", b"\x00other"]


def test_nothing_beyond_what_the_message_covers_is_agreed(bench: Bench) -> None:
    bench.append(1, (1, 0), "x", "unmatched")
    bench.append(2, (2, 1), commit=3)
    assert bench.machine.commands == [b"x"]


def test_entries_after_a_gap_are_asked_for(bench: Bench) -> None:
    assert bench.append(1, (9, 1), "x") == Appended(1, 1, 2, False, True)


def test_a_conflict_before_is_stepped_over_by_its_whole_term(bench: Bench) -> None:
    bench.append(1, (1, 0), "1", "2", "3", "4", commit=2)
    assert bench.append(3, (5, 2), "x") == Appended(3, 1, 3, False, True)


def test_nothing_takes_the_place_of_what_is_agreed(bench: Bench) -> None:
    bench.append(1, (1, 0), "x", "y", commit=3)
    assert bench.append(2, (1, 0), "other", "other") == Appended(2, 1, 4, True, False)
    assert bench.machine.commands == [b"x", b"y"]
    assert [entry[0] for entry in bench.log()] == [NOTHING, b"\x00x", b"\x00y"]


def test_an_earlier_leader_is_told_the_term(bench: Bench) -> None:
    bench.append(5, (1, 0))
    assert bench.append(4, (1, 0), "late") == Appended(5, 1, 0, False, False)
    assert len(bench.log()) == 1


def test_a_snapshot_agrees_on_nothing_but_itself(bench: Bench) -> None:
    """The hole that loses acknowledged entries in stock pysyncobj: unmatched ones became agreed beside a snapshot."""
    bench.append(1, (1, 0), "unmatched", "unmatched too")
    piece = InstallSnapshot(2, 1, b"half", True, False)
    assert bench.hear("b", piece) == [Appended(2, 1, 0, False, False)]
    assert bench.machine.commands == []


def _snapshot(index: int, *commands: str) -> bytes:
    machine = Counter()
    for command in commands:
        machine.apply(command.encode())
    return sealed(asdict(Snapshot(index, 2, b"\x00last", 2, b"\x00previous", machine.snapshot())))


def test_a_snapshot_takes_the_place_of_everything(bench: Bench) -> None:
    bench.append(1, (1, 0), "unmatched", commit=1)
    raw = _snapshot(10, "one", "two")
    bench.hear("b", InstallSnapshot(2, 1, raw[:20], True, False))
    assert bench.hear("b", InstallSnapshot(2, 2, raw[20:], False, True)) == [Appended(2, 2, 11, True, False)]
    assert bench.machine.commands == [b"one", b"two"]
    bench.append(2, (10, 2), "three", commit=11)
    bench.restart()
    assert bench.machine.commands == [b"one", b"two", b"three"]


def test_a_snapshot_that_is_older_than_the_state_changes_nothing(bench: Bench) -> None:
    bench.append(1, (1, 0), *(str(number) for number in range(20)), commit=21)
    assert bench.hear("b", InstallSnapshot(2, 1, _snapshot(10, "old"), True, True)) == [Appended(2, 1, 22, True, False)]
    assert len(bench.machine.commands) == 20


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_snapshot_changes_nothing(bench: Bench, damage: str) -> None:
    raw = _snapshot(10, "one")
    raw = raw[:-1] + bytes([raw[-1] ^ 1]) if damage == "flipped" else raw[:9] + raw[12:]
    assert bench.hear("b", InstallSnapshot(2, 1, raw, True, True)) == [Appended(2, 1, 0, False, False)]
    assert bench.machine.restored == 0
    assert not (bench.directory / "snapshot").exists()


def test_a_piece_without_its_beginning_is_dropped(bench: Bench) -> None:
    assert bench.hear("b", InstallSnapshot(2, 1, _snapshot(10), False, True)) == [Appended(2, 1, 0, False, False)]


# Elections


def test_who_hears_a_leader_does_not_vote(bench: Bench) -> None:
    bench.append(1, (1, 0))
    assert bench.hear("c", RequestVote(99, 50, 50)) == []
    assert bench.member.term == 1
    bench.now_s += bench.times.election_min_s * 1.01
    (vote,) = bench.hear("c", RequestVote(99, 50, 50))
    assert isinstance(vote, Vote)
    assert vote.heard_ago_s == pytest.approx(bench.times.election_min_s * 1.01)


def test_whoever_started_just_now_does_not_vote(bench: Bench) -> None:
    """It can't know whom it promised silence before."""
    assert bench.hear("c", RequestVote(3, 50, 2)) == []
    bench.now_s += 1
    bench.restart()
    assert bench.hear("c", RequestVote(3, 50, 2)) == []


def test_a_vote_is_kept_over_a_restart(bench: Bench) -> None:
    bench.now_s += 1
    assert len(bench.hear("c", RequestVote(3, 50, 2))) == 1
    bench.restart()
    bench.now_s += 1
    assert bench.hear("b", RequestVote(3, 60, 2)) == []
    assert len(bench.hear("b", RequestVote(4, 60, 2))) == 1


def test_the_same_voter_counts_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Times())
    bench.member._peers.update({peer: type(bench.member._peers["b"])(peer) for peer in ("d", "e")})
    bench.member._SyncObj__otherNodes.update(bench.member._peers.values())
    bench.now_s += 1
    bench.member._SyncObj__raftElectionDeadline = monotonic_s()
    bench.tick()
    for _ in range(3):
        bench.hear("b", Vote(bench.member.term, 1.0))
    assert bench.member.leadership().leader is None
    bench.member.close()


def test_who_slept_past_its_election_listens_once_before_it_stands(bench: Bench) -> None:
    def candidacies() -> int:
        bench.sent.clear()
        bench.member._SyncObj__raftElectionDeadline = monotonic_s() - 1.0
        bench.tick()
        return sum(isinstance(message, RequestVote) for _, message in bench.sent)

    assert candidacies() == 0
    assert bench.member._SyncObj__raftElectionDeadline > monotonic_s()
    assert candidacies() == len(PEERS)
    bench.now_s += 1
    bench.append(bench.member.term + 1, (1, 0))
    assert candidacies() == 0


# Leader


def test_an_answer_of_another_term_agrees_on_nothing(bench: Bench) -> None:
    term = bench.lead()
    bench.hear("b", Appended(term - 1, 1, 3, True, False))
    assert bench.member.applied == 1
    bench.hear("b", Appended(term, 1, 3, True, False))
    assert bench.member.applied == 2


def test_an_answer_of_a_later_term_ends_the_leadership(bench: Bench) -> None:
    term = bench.lead()
    bench.hear("b", Appended(term + 3, 1, 0, False, False))
    assert bench.member.leadership().leader is None
    assert bench.member.term == term + 3


def test_an_answer_beyond_the_log_is_bounded(bench: Bench) -> None:
    term = bench.lead()
    bench.hear("b", Appended(term, 1, 50, False, True))
    bench.sent.clear()
    bench.member._SyncObj__sendAppendEntries()
    assert bench.rounds("b")[0].prev_index <= 2
    bench.hear("b", Appended(term, 1, 50, True, False))
    assert bench.member.applied == 1


def test_a_lease_needs_the_first_entry_and_an_answer_to_a_round(bench: Bench) -> None:
    term = bench.lead()
    assert bench.member.leadership().lease_until_s is None
    bench.sent.clear()
    sent_s = bench.now_s
    bench.member._SyncObj__sendAppendEntries()
    number = bench.rounds("b")[-1].round
    bench.now_s += 0.1
    bench.hear("b", Appended(term, number, 3, True, False))
    length_s = bench.times.leader_lease_s * (1 - bench.times.drift)
    assert bench.member.leadership().lease_until_s == pytest.approx(sent_s + length_s)
    assert not bench.member.leadership().holds(sent_s + bench.times.leader_lease_s)


def test_a_leader_with_a_quorum_is_not_deposed_by_a_candidate(bench: Bench) -> None:
    term = bench.lead()
    bench.sent.clear()
    bench.member._SyncObj__sendAppendEntries()
    bench.hear("b", Appended(term, bench.rounds("b")[-1].round, 3, True, False))
    assert bench.hear("c", RequestVote(term + 9, 50, 50)) == []
    assert bench.member.leadership().leader == "a"


def test_a_leader_that_steps_down_with_its_lease_lets_the_next_one_wait(bench: Bench) -> None:
    term = bench.lead()
    bench.sent.clear()
    bench.member._SyncObj__sendAppendEntries()
    bench.hear("b", Appended(term, bench.rounds("b")[-1].round, 3, True, False))
    bench.hear("c", Appended(term + 3, 1, 0, False, False))
    assert bench.hear("c", RequestVote(term + 4, 50, 50)) == []
    bench.now_s += 0.2
    (vote,) = bench.hear("c", RequestVote(term + 4, 50, 50))
    assert isinstance(vote, Vote)
    assert vote.heard_ago_s == pytest.approx(0.2)


def test_a_leader_whose_lease_has_ended_tells_of_the_round_that_it_counted_from(bench: Bench) -> None:
    """What it granted under that lease may outlast it."""
    term = bench.lead()
    bench.sent.clear()
    bench.member._SyncObj__sendAppendEntries()
    sent_s = bench.now_s
    bench.hear("b", Appended(term, bench.rounds("b")[-1].round, 3, True, False))
    bench.now_s += bench.times.leader_lease_s + 0.05
    assert not bench.member.leadership().holds(bench.now_s)
    bench.hear("c", Appended(term + 3, 1, 0, False, False))
    (vote,) = bench.hear("c", RequestVote(term + 4, 50, 50))
    assert isinstance(vote, Vote)
    assert vote.heard_ago_s == pytest.approx(bench.now_s - sent_s)


def test_a_leader_says_until_when_its_voters_heard_another(bench: Bench) -> None:
    started_s = bench.now_s
    term = bench.lead()
    bench.sent.clear()
    bench.member._SyncObj__sendAppendEntries()
    assert bench.member.leadership().heard_s is None
    bench.hear("b", Appended(term, bench.rounds("b")[-1].round, 3, True, False))
    assert bench.member.leadership().heard_s == pytest.approx(started_s)


def test_a_leader_that_is_not_linked_is_none(bench: Bench) -> None:
    bench.append(1, (1, 0))
    assert bench.member.leadership().leader == "b"
    bench.member.connected("b", False)
    assert bench.member.leadership().leader is None
    bench.member.connected("b", True)
    bench.append(1, (1, 0))
    assert bench.member.leadership().leader == "b"


# Proposals


def test_a_command_that_can_not_be_forwarded_is_answered_at_once(bench: Bench) -> None:
    bench.append(1, (1, 0))
    bench.reachable.clear()
    answers: list[tuple[Applied | None, int]] = []
    bench.member.submit(b"x", lambda applied, reason: answers.append((applied, reason)))
    bench.tick()
    assert answers == [(None, 2)]


def test_a_forwarded_command_whose_leader_is_lost_is_answered(bench: Bench) -> None:
    bench.append(1, (1, 0))
    answers: list[tuple[Applied | None, int]] = []
    bench.sent.clear()
    bench.member.submit(b"x", lambda applied, reason: answers.append((applied, reason)))
    bench.tick()
    assert isinstance(bench.sent[-1][1], Propose)
    bench.member.connected("b", False)
    assert answers == [(None, 5)]


def test_answers_to_a_former_life_are_not_taken_for_new_ones(bench: Bench) -> None:
    numbers = []
    for _ in range(2):
        bench.append(1, (1, 0))
        bench.sent.clear()
        bench.member.submit(b"x", lambda applied, reason: None)
        bench.tick()
        forwarded = bench.sent[-1][1]
        assert isinstance(forwarded, Propose)
        numbers.append(forwarded.request)
        bench.restart()
    assert numbers[0] != numbers[1]
    bench.hear("b", Proposed(numbers[0], 2, 1))
    bench.hear("b", NotProposed(numbers[1], 2))


def test_a_follower_refuses_what_is_forwarded_to_it(bench: Bench) -> None:
    bench.append(1, (1, 0))
    bench.sent.clear()
    bench.member.deliver("c", Propose(7, b"x"))
    bench.tick()
    assert ("c", NotProposed(7, 4)) in bench.sent


# Start


def test_what_was_agreed_is_applied_again_at_the_start(bench: Bench) -> None:
    bench.append(1, (1, 0), "x", "y", commit=3)
    bench.restart()
    assert bench.machine.commands == [b"x", b"y"]


def test_a_snapshot_does_not_drop_the_entries_after_it(tmp_path: Path) -> None:
    """Killed between the snapshot and the cut of the journal: stock pysyncobj drops what the snapshot has not."""
    bench = Bench(tmp_path, Times())
    bench.append(1, (1, 0), *(str(number) for number in range(6)), commit=5)
    state = bench.machine.snapshot()
    entries = bench.log()
    (before, _, before_term), (last, index, term) = entries[3:5]
    (tmp_path / "snapshot").write_bytes(sealed(asdict(Snapshot(index, term, last, before_term, before, state))))
    bench.restart()
    assert bench.log()[-1] == entries[-1]
    assert bench.member.first_index() == index - 1
    bench.append(1, (7, 1), commit=7)
    assert bench.machine.commands == [str(number).encode() for number in range(6)]
    bench.member.close()


@pytest.mark.parametrize(
    ("lost", "line"),
    [("journal", "the journal is empty, but this member has voted"), ("snapshot", "there is no snapshot before it")],
)
def test_a_member_whose_files_were_lost_does_not_start(tmp_path: Path, lost: str, line: str) -> None:
    bench = Bench(tmp_path, Times(compact_entries=2))
    bench.append(3, (1, 0), *(str(number) for number in range(9)), commit=10)
    bench.tick()
    assert (tmp_path / "snapshot").exists()
    bench.member.close()
    (tmp_path / lost).unlink()
    if lost == "journal":
        (tmp_path / "snapshot").unlink()
    with pytest.raises(StorageError, match=line):
        bench.awaken()


def test_a_snapshot_that_can_not_be_written_leaves_the_journal_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Times(compact_entries=2))
    (tmp_path / "snapshot.new").mkdir()
    bench.append(3, (1, 0), *(str(number) for number in range(9)), commit=10)
    bench.tick()
    assert "Is a directory" in bench.member._snapshots.trouble
    assert bench.member.first_index() == 1
    bench.append(3, (10, 3), "on", commit=11)
    assert bench.machine.commands[-1] == b"on"
    bench.member.close()
