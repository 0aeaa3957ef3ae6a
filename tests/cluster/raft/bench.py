"""A single member that is told what its peers say: no network, a real journal, a disk that can hang."""

from __future__ import annotations

import time
from pathlib import Path

from cluster.raft.consensus import Consensus
from cluster.raft.disk import Disk
from cluster.raft.errors import StorageError
from cluster.raft.journal import Journal
from cluster.raft.machine import Machine
from cluster.raft.snapshots import SnapshotStore
from cluster.raft.times import Times
from cluster.raft.wire import NO_OP, Appended, AppendEntries, RaftMessage, Vote
from tests.cluster.raft.group import Counter
from transport.clock import boottime_s

PEERS = ("b", "c")
NOTHING = bytes([NO_OP])


def monotonic_s() -> float:
    """The clock of elections."""
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)


class Bench:
    """Member a, its state machine, what it sent, and a clock for its leases. Its disk is fast, unless it hangs."""

    def __init__(self, directory: Path, times: Times) -> None:
        self.directory = directory
        self.times = times
        self.sent: list[tuple[str, RaftMessage]] = []
        self.reachable = set(PEERS)
        self.disk_hangs = False
        self.now_s = boottime_s()
        self.awaken()

    def awaken(self) -> None:
        self.machine = Counter()
        self.disk = Disk()
        journal = Journal(self.directory, self.disk)
        try:
            self.member = Consensus(
                "a",
                PEERS,
                self.times,
                self.disk,
                journal,
                SnapshotStore(self.directory, self.machine.snapshot, self.disk),
                Machine(self.machine.apply, self.machine.snapshot, self.machine.restore),
                self._send,
                lambda: self.now_s,
            )
        except StorageError:
            journal.close()
            raise
        for peer in PEERS:
            self.member.connected(peer, True)

    def restart(self) -> None:
        self.member.close()
        self.awaken()

    def hear(self, peer: str, message: RaftMessage) -> list[RaftMessage]:
        """Deliver a message and tick; return what went back to the peer at once."""
        self.sent.clear()
        self.member.deliver(peer, message)
        self.write()
        answers = [answer for to, answer in self.sent if to == peer]
        self.tick()
        return answers

    def write(self) -> None:
        """The disk does what it was told to, unless it hangs."""
        while not self.disk_hangs and (batch := self.disk.take()) is not None:
            batch.perform()
            self.member.settle(batch)

    def tick(self) -> None:
        self.member.tick()
        self.write()
        self.member.tick()

    def append(
        self, term: int, previous: tuple[int, int], *commands: str, commit: int = 0, terms: tuple[int, ...] = ()
    ) -> Appended:
        """Deliver AppendEntries of leader b after (index, term); return the answer."""
        entries = tuple(
            (terms[place] if terms else term, b"\x00" + command.encode()) for place, command in enumerate(commands)
        )
        (answer,) = self.hear("b", AppendEntries(term, 1, commit, *previous, entries))
        assert isinstance(answer, Appended)
        return answer

    def log(self) -> list[tuple[bytes, int, int]]:
        journal = Journal(self.directory, Disk())
        try:
            return journal[:]
        finally:
            journal.close()

    def lead(self) -> int:
        """Have the member elected by b; return its term."""
        self.now_s += 1
        self.member._SyncObj__raftElectionDeadline = monotonic_s()
        self.tick()
        term = self.member.term
        self.hear("b", Vote(term, 1.0))
        assert self.member.leadership().leader == "a"
        return term

    def rounds(self, peer: str) -> list[AppendEntries]:
        return [message for to, message in self.sent if to == peer and isinstance(message, AppendEntries)]

    def _send(self, peer: str, message: RaftMessage) -> bool:
        self.sent.append((peer, message))
        return peer in self.reachable
