"""pysyncobj's Raft with its holes closed: what comes in is judged here, what it does by the clock is pysyncobj's.

A subclass that reaches into pysyncobj by its mangled names, which is why the version is pinned exactly. No asyncio and
no sockets: `deliver` takes a peer's message, `tick` lets time pass, `send` is given what goes out. What is replaced,
and why, is in docs/raft.md; section numbers are those of the Raft paper (Ongaro and Ousterhout, extended version) and
of Ongaro's thesis.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

from pysyncobj import SyncObj
from pysyncobj.monotonic import monotonic
from pysyncobj.node import Node
from pysyncobj.syncobj import _RAFT_STATE

from cluster.raft.disk import Batch, Disk
from cluster.raft.errors import StorageError
from cluster.raft.gate import Gate, Promised, held_by_quorum
from cluster.raft.journal import Journal
from cluster.raft.lease import Leadership, QuorumLease
from cluster.raft.machine import Applied, Machine
from cluster.raft.snapshots import Snapshot, SnapshotStore, parse_snapshot
from cluster.raft.stock import Outlet, settings_of
from cluster.raft.times import Times
from cluster.raft.wire import (
    NO_OP,
    REGULAR,
    Appended,
    AppendEntries,
    Entry,
    InstallSnapshot,
    NotProposed,
    Propose,
    RaftMessage,
    RequestVote,
    Vote,
    from_pysyncobj,
    to_pysyncobj,
)

COMPACT_AGAIN_S: Final = 10.0
LATE_S: Final = 0.020
"""Who comes later than that to its own election was not scheduled; it listens for as long again before it stands."""
OTHERS_DISKS: Final = 2.0
"""A candidate waits for votes longer than usual by so many times what its own disk took to keep its vote."""
LEADER_UNKNOWN: Final = 2
"""pysyncobj's FAIL_REASON.MISSING_LEADER: the command went nowhere."""


class Consensus(SyncObj):  # type: ignore[misc]
    """One member's Raft.

    send(peer, message) -> whether it has a connection to the peer. clock: CLOCK_BOOTTIME in seconds (leases); elections
    use pysyncobj's clock. disk: has the journal's and the snapshots' work; whoever drives this member has it done, and
    says so to `settle`, which raises StorageError when the disk refused something: the member must then stop. So do
    the start, `close`, and `tick` of a member without peers, which wait for the disk.
    """

    _SyncObj__raftLeader: Node | None

    def __init__(
        self,
        node: str,
        peers: Iterable[str],
        times: Times,
        disk: Disk,
        journal: Journal,
        snapshots: SnapshotStore,
        machine: Machine,
        send: Callable[[str, RaftMessage], bool],
        clock: Callable[[], float],
    ) -> None:
        self._peers = {peer: Node(peer) for peer in peers}
        self._times = times
        self._disk = disk
        self._gate = Gate()
        self._matched: dict[Node, int] = {}
        """Up to where the log of each peer is the leader's, and durable. pysyncobj is told of less: `_count`."""
        self._term_since: float | None = None
        """Since when the disk has a term or a vote to keep that it has not kept yet; pysyncobj's clock."""
        self._machine = machine
        self._send = send
        self._clock = clock
        self._heard_s = clock()  # as if a leader had spoken: whom this member promised silence before, it can't know
        self._voters_heard_s = self._heard_s
        self._listened_s = float("-inf")
        """Of which `_heard_s` was the last election that was put off, to listen."""
        self._voters: set[str] = set()
        self.elections: tuple[int, float] = (0, 0.0)
        """How often this member stood, and for how long it had heard no leader when it last did, in seconds."""
        self._lease = QuorumLease(self._peers, times.leader_lease_s, times.drift)
        self._told: tuple[int, int] = (0, 0)
        self._compact_not_before = 0.0
        self._lost_replies: list[tuple[Node, int]] = []
        super().__init__(Node(node), list(self._peers.values()), settings_of(times), transport=Outlet(self._pass_on))
        self._poller = self
        # A follower that starts again must not take answers to its former numbers for answers to its new ones.
        self._SyncObj__commandsLocalCounter = secrets.randbits(48)
        self._begin_from(journal, snapshots)

    # The outside

    def deliver(self, peer: str, message: RaftMessage) -> None:
        """A message came from `peer`."""
        node = self._peers[peer]
        match message:
            case RequestVote():
                self._on_request_vote(node, message)
            case Vote():
                self._on_vote(node, message)
            case AppendEntries():
                self._on_append_entries(node, message)
            case InstallSnapshot():
                self._on_snapshot(node, message)
            case Appended():
                self._on_appended(node, message)
            case _:
                self._SyncObj__onMessageReceived(node, to_pysyncobj(message))

    def connected(self, peer: str, up: bool) -> None:
        """The connection to `peer` is there, or gone."""
        node = self._peers[peer]
        if up:
            if not self._isLeader() and not self._SyncObj__connectedToAnyone():
                self._wait_before_election()  # whoever was alone listens first
            self._SyncObj__onNodeConnected(node)
            return
        self._SyncObj__onNodeDisconnected(node)
        self._snapshots.cancelTransmisstion(node)
        self._gate.drop(peer)
        if self._SyncObj__raftLeader == node:
            # What was forwarded over it may never be answered, and nothing reaches it now. If it leads, it says so.
            self._SyncObj__onLeaderChanged()
            self._SyncObj__raftLeader = None

    def tick(self) -> None:
        """Let time pass: elections, heartbeats, agreement, application, compaction."""
        if not self._peers:
            self._disk.sync()
        self._count()
        self._listen_if_late()
        if self._term_since is not None and not self._isLeader():
            self._wait_before_election()  # whoever has not kept its term yet can't stand for the next one
        self._onTick(0)
        while self._lost_replies:
            node, request = self._lost_replies.pop()
            self._SyncObj__onMessageReceived(node, to_pysyncobj(NotProposed(request, LEADER_UNKNOWN)))
        if self._isLeader():
            now = self._last_index(), self._SyncObj__raftCommitIndex
            if now != self._told:
                self._told = now
                self._SyncObj__sendAppendEntries()

    def settle(self, batch: Batch) -> None:
        """The disk has done a batch: what waited for it leaves. `tick` follows."""
        self._disk.settle(batch)
        if self._term_since is not None and self._journal.term_promised <= self._disk.durable:
            if self._SyncObj__raftState == _RAFT_STATE.CANDIDATE:
                # The others' disks take as long to keep a vote: who stands again before that never hears of it.
                self._wait_before_election(OTHERS_DISKS * (monotonic() - self._term_since))
            self._term_since = None
        for peer, message in self._gate.release(self._disk.durable, self._clock()):
            self._send(peer, message)

    def submit(self, command: bytes, callback: Callable[[Applied | None, int], None]) -> None:
        """Propose a command. callback(answer, 0) after it was applied here, or callback(None, FAIL_REASON)."""
        self._applyCommand(command, callback, REGULAR)

    def due_in_s(self) -> float:
        """Return after which time `tick` has something to do even if nothing happens. At most 1."""
        now = monotonic()
        if self._unsettled():
            return 0.0
        if self._isLeader():
            due = self._SyncObj__newAppendEntriesTime - now
            begins = self._lease.not_before_s
            if begins is not None and begins > self._clock():
                due = min(due, begins - self._clock())
        elif self._SyncObj__connectedToAnyone():
            due = self._SyncObj__raftElectionDeadline - now
        else:
            due = 1.0  # pysyncobj stands for no election while nobody could hear of it
        # pysyncobj compares with `>`: a tick at the very moment would do nothing.
        return float(min(max(due, 0.0) + 0.0005, 1.0))

    def leadership(self) -> Leadership:
        """Return who leads. Authority begins when this leader's first entry is applied: before, it may lag behind."""
        leader = self._SyncObj__raftLeader
        until = None
        if self._isLeader() and self._SyncObj__raftLastApplied >= self._SyncObj__noopIDx:
            until = self._lease.authority_until_s(self._clock())
        heard = None if until is None else self._lease.heard_s
        return Leadership(None if leader is None else leader.id, self.term, until, heard)

    def has_quorum(self) -> bool:
        """Whether this member leads and a quorum stands behind it now."""
        now = self._clock()
        until = self._lease.quorum_until_s(now)
        return self._isLeader() and until is not None and now < until

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def applied(self) -> int:
        """The index of the last entry that was applied here."""
        return int(self._SyncObj__raftLastApplied)

    def first_index(self) -> int:
        """The index of the oldest entry that is still in the journal."""
        return int(self._journal[0][1])

    def poll(self, _timeout: float) -> None:
        """pysyncobj's poller: this member waits for nothing in here."""

    def close(self) -> None:
        """Keep everything."""
        self._journal.close()

    # Start

    def _begin_from(self, journal: Journal, snapshots: SnapshotStore) -> None:
        self._journal = self._SyncObj__raftLog = journal
        self._snapshots = self._SyncObj__serializer = snapshots
        self._SyncObj__needLoadDumpFile = False
        snapshot = snapshots.load()
        if not journal and snapshot is None:
            if journal.getCurrentTerm():
                raise StorageError("the journal is empty, but this member has voted: its entries were lost")
            journal.add(bytes([NO_OP]), 1, 0)
        if journal and snapshot is None and journal[0][1] != 1:
            raise StorageError(f"the journal begins with entry {journal[0][1]}, but there is no snapshot before it")
        if journal and snapshot is not None and journal[0][1] > snapshot.index:
            raise StorageError(f"the journal begins with entry {journal[0][1]}, the snapshot ends at {snapshot.index}")
        self._SyncObj__raftCommitIndex = journal.getRaftCommitIndex()
        if snapshot is not None:
            self._adopt(snapshot, clear=False)
        self._disk.sync()
        self._SyncObj__raftCurrentTerm = max(journal.getCurrentTerm(), journal[-1][2])
        self._SyncObj__votedForNodeId = journal.getVotedForNodeId()
        self._SyncObj__applyLogEntries()

    def _adopt(self, snapshot: Snapshot, *, clear: bool) -> None:
        self._machine.restore(snapshot.state)
        journal = self._journal
        place = snapshot.index - 1 - journal[0][1] if journal else -1
        follows = 0 <= place < len(journal) - 1 and journal[place + 1][1:] == (snapshot.index, snapshot.term)
        if follows and not clear:
            # Entries after the snapshot may be acknowledged: they stay (pysyncobj would drop them).
            journal.deleteEntriesTo(place)
        else:
            journal.clear()
            for entry in snapshot.entries:
                journal.add(*entry)
        self._SyncObj__raftLastApplied = snapshot.index
        self._SyncObj__raftCommitIndex = max(self._SyncObj__raftCommitIndex, snapshot.index)
        for index in [index for index in self._SyncObj__commandsWaitingCommit if index <= snapshot.index]:
            del self._SyncObj__commandsWaitingCommit[index]  # their proposers time out: the outcome is in the snapshot

    # Application

    def _SyncObj__doApplyCommand(self, command: bytes) -> Applied | None:
        if command[0] != REGULAR:
            return None
        try:
            return Applied(self._machine.apply(command[1:]))
        except Exception as error:
            # The same on every member, if it is deterministic. Raised, pysyncobj would try it again at every tick.
            return Applied(b"", f"{type(error).__name__}: {error}")

    def _SyncObj__tryLogCompaction(self) -> None:
        if self._snapshots.failed_just_now():
            # The journal still has everything. pysyncobj would try again at every tick.
            self._compact_not_before = monotonic() + COMPACT_AGAIN_S
        if monotonic() >= self._compact_not_before:
            super()._SyncObj__tryLogCompaction()

    # Sending

    def _pass_on(self, node: Node, message: dict[str, Any]) -> bool:
        number = 0
        if message["type"] == "append_entries":
            number = self._lease.sent(node.id, self._clock())
            if message.get("prevLogIdx", 0) is None:
                return False  # pysyncobj has no entry there; the follower's next answer sets it right
        typed = from_pysyncobj(message, number, max(0.0, self._clock() - self._heard_s))
        sent = self._say(node.id, typed)
        if not sent and isinstance(typed, Propose):
            self._lost_replies.append((node, typed.request))
        return sent

    def _say(self, peer: str, message: RaftMessage) -> bool:
        """Send, or keep until the disk has what the message promises."""
        promised = Promised(self._disk.durable, self._journal.promised, self._journal.term_promised)
        now = self._gate.offer(peer, message, promised, self._clock())
        return now is None or self._send(peer, now)

    def _answer(self, node: Node, number: int, next_index: int, *, success: bool = False, reset: bool = False) -> None:
        self._say(node.id, Appended(self.term, number, next_index, success, reset))

    # Elections

    def _on_request_vote(self, node: Node, message: RequestVote) -> None:
        # Thesis 4.2.3: who hears a leader helps nobody to depose it.
        if self.has_quorum() or self._clock() < self._heard_s + self._times.faithful_s:
            return
        self._SyncObj__onMessageReceived(node, to_pysyncobj(message))

    def _on_vote(self, node: Node, message: Vote) -> None:
        if message.term != self.term or node.id in self._voters:
            return
        self._voters.add(node.id)
        self._voters_heard_s = max(self._voters_heard_s, self._clock() - message.heard_ago_s)
        self._SyncObj__onMessageReceived(node, to_pysyncobj(message))

    def _SyncObj__setCurrentTerm(self, term: int, voted_for: str | None) -> None:
        if term != self.term:
            self._voters.clear()
            self._voters_heard_s = self._heard_s
        super()._SyncObj__setCurrentTerm(term, voted_for)
        self._term_since = monotonic()

    def _SyncObj__onBecomeLeader(self) -> None:
        self._lease.begin(self.term, self._voters_heard_s)
        self._matched.clear()
        super()._SyncObj__onBecomeLeader()

    def _SyncObj__setState(self, state: int) -> None:
        was_leader = self._isLeader()
        super()._SyncObj__setState(state)
        if state == _RAFT_STATE.CANDIDATE:
            self.elections = self.elections[0] + 1, self._clock() - self._heard_s
        if was_leader and state != _RAFT_STATE.LEADER:
            now = self._clock()
            until = self._lease.quorum_until_s(now)
            if until is not None:
                # This member heard itself. Who acts on a lease that stands may hear late that it has ended: the next
                # leader waits it out. What was granted under one that ended goes back to its last round.
                self._heard_s = now if now < until else max(self._heard_s, self._lease.sent_before_s(until))
            self._lease.end()
            self._wait_before_election()

    def _wait_before_election(self, longer_s: float = 0.0) -> None:
        wait_s = self._times.election_min_s + longer_s
        spread = self._times.election_max_s - self._times.election_min_s
        self._SyncObj__raftElectionDeadline = monotonic() + wait_s + spread * random.random()

    def _listen_if_late(self) -> None:
        """Who comes late to its own election slept, and a leader's word may wait to be read: listen first, once."""
        now = monotonic()
        late_s = now - self._SyncObj__raftElectionDeadline
        if not self._isLeader() and late_s > LATE_S and self._listened_s != self._heard_s:
            self._listened_s = self._heard_s
            self._SyncObj__raftElectionDeadline = now + LATE_S

    def _step_down(self, term: int) -> None:
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(_RAFT_STATE.FOLLOWER)
        self._SyncObj__raftLeader = None

    # Follower

    def _follow(self, node: Node, term: int) -> None:
        self._heard_s = self._clock()
        self._wait_before_election()
        if self._SyncObj__raftLeader != node:
            self._SyncObj__onLeaderChanged()
        self._SyncObj__raftLeader = node
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(_RAFT_STATE.FOLLOWER)

    def _on_append_entries(self, node: Node, message: AppendEntries) -> None:
        if message.term < self.term:
            self._answer(node, message.round, 0)
            return
        self._follow(node, message.term)
        entries = [
            (command, message.prev_index + 1 + place, term) for place, (term, command) in enumerate(message.entries)
        ]
        last = message.prev_index + len(entries)
        commit = self._SyncObj__raftCommitIndex
        if message.prev_index < commit:
            # What is agreed is the same everywhere: it need not be looked at, and may be compacted away here.
            entries = [entry for entry in entries if entry[1] > commit]
            last = max(last, commit)
        else:
            known = self._entry(message.prev_index)
            if known is None:
                self._answer(node, message.round, self._last_index() + 1, reset=True)
                return
            if known[2] != message.prev_term:
                self._answer(node, message.round, self._first_of_term(known), reset=True)
                return
        self._take(entries)
        if message.commit > commit:
            # Paper 5.3: no further than what is known to be the leader's own.
            self._SyncObj__raftCommitIndex = max(commit, min(message.commit, last))
            self._journal.setRaftCommitIndex(self._SyncObj__raftCommitIndex)
        self._answer(node, message.round, last + 1, success=True)

    def _take(self, entries: list[Entry]) -> None:
        """Append what is new. Only what conflicts is cut off: what matches may be acknowledged (paper 5.3)."""
        for place, (_, index, term) in enumerate(entries):
            known = self._entry(index)
            if known is not None and known[2] == term:
                continue
            if known is not None:
                self._journal.deleteEntriesFrom(index - self.first_index())
            for entry in entries[place:]:
                self._journal.add(*entry)
            return

    def _first_of_term(self, entry: Entry) -> int:
        """Return the index of the first entry of the same term that is not agreed yet."""
        index = entry[1]
        while index - 1 > self._SyncObj__raftCommitIndex and (before := self._entry(index - 1)) is not None:
            if before[2] != entry[2]:
                break
            index -= 1
        return index

    def _on_snapshot(self, node: Node, message: InstallSnapshot) -> None:
        if message.term < self.term:
            self._answer(node, message.round, 0)
            return
        self._follow(node, message.term)
        raw = self._snapshots.receive(message.data, message.first, message.last)
        if raw is None:
            self._answer(node, message.round, 0)
            return
        try:
            snapshot = parse_snapshot(raw, f"the snapshot from {node.id}")
        except StorageError:
            self._answer(node, message.round, 0)
            return
        if snapshot.index > self._SyncObj__raftCommitIndex:
            self._snapshots.keep(raw)
            self._adopt(snapshot, clear=True)
            self._journal.setRaftCommitIndex(self._SyncObj__raftCommitIndex)
        self._answer(node, message.round, self._SyncObj__raftCommitIndex + 1, success=True)

    # Leader

    def _on_appended(self, node: Node, message: Appended) -> None:
        if message.term > self.term:
            self._step_down(message.term)
            return
        if message.term < self.term or not self._isLeader():
            return
        self._lease.acknowledged(node.id, message.term, message.round)
        self._SyncObj__lastResponseTime[node] = monotonic()
        if message.next_index == 0:
            return
        wanted = min(message.next_index, self._last_index() + 1)
        if message.reset:
            self._SyncObj__raftNextIndex[node] = wanted
        if message.success and message.next_index == wanted and self._matched.get(node, 0) < wanted - 1:
            self._matched[node] = wanted - 1
            self._SyncObj__raftNextIndex[node] = max(wanted, self._SyncObj__raftNextIndex[node])

    def _count(self) -> None:
        """Tell pysyncobj what it may agree on: it counts the leader for all of its log, durable or not."""
        if not self._isLeader() or not self._peers:
            return
        matched = {node: self._matched.get(node, 0) for node in self._peers.values()}
        agreed = held_by_quorum([self._journal.durable_index, *matched.values()])
        for node, index in matched.items():
            self._SyncObj__raftMatchIndex[node] = min(index, agreed)

    def _last_index(self) -> int:
        return int(self._journal[-1][1])

    def _unsettled(self) -> bool:
        """Whether a tick right now would agree on more: a leader without peers needs nobody's answer."""
        return not self._peers and self._isLeader() and self._last_index() > self._SyncObj__raftCommitIndex

    def _entry(self, index: int) -> Entry | None:
        place = index - self.first_index()
        return self._journal[place] if 0 <= place < len(self._journal) else None
