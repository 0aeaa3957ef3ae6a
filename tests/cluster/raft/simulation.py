"""Three members under a virtual clock, with links that break, partitions each way, and crashes; one seed, one history.

The members are the production ones, with their journals on a disk; what they say to each other goes through the wire's
own encoding. The checkers know what the clients saw and what was applied, and nothing of Raft.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cluster.raft.consensus import Consensus
from cluster.raft.disk import Batch, Disk
from cluster.raft.journal import Journal
from cluster.raft.machine import Applied, Machine
from cluster.raft.snapshots import SnapshotStore
from cluster.raft.times import Times
from cluster.raft.wire import WIRE, RaftMessage
from tests.cluster.raft.group import NODES

DELAY_S = (0.0002, 0.008)
DISK_S = (0.0002, 0.004)
STALL_S = (0.02, 0.8)
"""How long a disk takes, and how long if it stalls (`World.stalls`). Meanwhile its member goes on."""
TROUBLE_S = (0.02, 0.6)
QUIET_S = 4.0


class Broken(Exception):
    """An invariant does not hold."""


class Ledger:
    """One node's state machine: all commands in order; every place is compared with what others applied there."""

    def __init__(self, agreed: list[bytes]) -> None:
        self.agreed = agreed
        self.commands: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        place = len(self.commands)
        if place == len(self.agreed):
            self.agreed.append(command)
        elif self.agreed[place] != command:
            raise SystemExit(f"place {place}: {command!r} here, {self.agreed[place]!r} elsewhere")
        self.commands.append(command)
        return str(place).encode()

    def snapshot(self) -> bytes:
        return b"".join(struct.pack("<I", len(command)) + command for command in self.commands)

    def restore(self, state: bytes) -> None:
        self.commands = []
        place = 0
        while place < len(state):
            (size,) = struct.unpack_from("<I", state, place)
            self.apply(state[place + 4 : place + 4 + size])
            place += 4 + size


class World:
    """The members, the network between them, the clients, and the time."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.now_s = 100.0
        random.seed(seed)  # pysyncobj draws its election times from it
        self.chance = random.Random(seed)
        self.directory = directory
        self.times = Times(compact_entries=40, compact_s=1.0)
        self.agreed: list[bytes] = []
        self.acknowledged: set[bytes] = set()
        self.leaders: list[tuple[str, int]] = []
        self.counts = {"crash": 0, "cut": 0, "break": 0, "snapshot": 0, "asked": 0}
        self.members: dict[str, Consensus] = {}
        self.disks: dict[str, Disk] = {}
        self.ledgers: dict[str, Ledger] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wake: dict[str, int] = dict.fromkeys(NODES, 0)
        self._link: dict[frozenset[str], int] = {}
        self._cut: set[tuple[str, str]] = set()
        self._held: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._last: dict[tuple[str, str], float] = {}
        self._quiet = False
        self._synced: dict[int, int] = {}
        self._power_failed = False
        self.stalls = 0.05
        """How often a disk does: the part of all its batches."""

    def run(self, trouble_s: float) -> None:
        """Let trouble happen for so long, then quiet; raises Broken, or SystemExit when a state machine differs."""
        for node in NODES:
            self._awaken(node)
        self._later(0.01, self._ask)
        self._later(0.3, self._trouble)
        self._go_on(self.now_s + trouble_s)
        self._quiet = True
        self._heal()
        self._go_on(self.now_s + QUIET_S)
        states = [self.ledgers[node].commands for node in NODES]
        if any(state != states[0] for state in states) or states[0] != self.agreed:
            raise Broken(f"after quiet the states differ: {[len(state) for state in states]} of {len(self.agreed)}")
        lost = self.acknowledged - set(self.agreed)
        if lost:
            raise Broken(f"acknowledged, but lost: {sorted(lost)[:5]}")
        if not self._holders():
            raise Broken("after quiet nobody leads")

    def sync(self, descriptor: int) -> None:
        """Stands for fsync and fdatasync: notes what would be durable. Without power there is none."""
        if self._power_failed:
            raise OSError(errno.EIO, "")
        status = os.fstat(descriptor)
        self._synced[status.st_ino] = status.st_size

    def close(self) -> None:
        for node, member in self.members.items():
            batch = self.disks[node]._under_way
            if batch is not None:
                batch.perform()
            member.close()

    # Time

    def _later(self, after_s: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_s + after_s, next(self._order), work))

    def _go_on(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, work = heapq.heappop(self._events)
            work()
            self._check()
        self.now_s = until_s

    def _check(self) -> None:
        holders = self._holders()
        if len(holders) > 1:
            raise Broken(f"{holders} hold the lease at {self.now_s}")
        for node in holders:
            leads = node, self.members[node].term
            if not self.leaders or self.leaders[-1] != leads:
                self.leaders.append(leads)

    def _holders(self) -> list[str]:
        return [node for node, member in self.members.items() if member.leadership().holds(self.now_s)]

    # Members

    def _awaken(self, node: str) -> None:
        ledger = Ledger(self.agreed)
        directory = self.directory / node
        directory.mkdir(exist_ok=True)
        peers = [peer for peer in NODES if peer != node]
        machine = Machine(ledger.apply, ledger.snapshot, ledger.restore)
        disk = Disk()
        journal = Journal(directory, disk)
        store = SnapshotStore(directory, ledger.snapshot, disk)
        send = partial(self._send, node)
        self.ledgers[node], self.disks[node] = ledger, disk
        self.members[node] = Consensus(node, peers, self.times, disk, journal, store, machine, send, lambda: self.now_s)
        self._tick(node)
        for peer in peers:
            self._later(self.chance.uniform(0.001, 0.1), partial(self._join, node, peer))

    def _tick(self, node: str) -> None:
        member = self.members.get(node)
        if member is None:
            return
        member.tick()
        batch = self.disks[node].take()
        if batch is not None:
            takes_s = self.chance.uniform(*(STALL_S if self.chance.random() < self.stalls else DISK_S))
            self._later(takes_s, partial(self._written, node, member, batch))
        self._wake[node] += 1
        self._later(member.due_in_s(), partial(self._timer, node, self._wake[node]))

    def _timer(self, node: str, number: int) -> None:
        if self._wake[node] == number:
            self._tick(node)

    def _written(self, node: str, member: Consensus, batch: Batch) -> None:
        if self.members.get(node) is member:
            batch.perform()
            member.settle(batch)
            self._tick(node)

    def _crash(self, node: str) -> None:
        member = self.members.pop(node, None)
        if member is None:
            return
        self.counts["crash"] += 1
        self.counts["snapshot"] += (self.directory / node / "snapshot").exists()
        batch = self.disks[node]._under_way
        is_power_loss = self.chance.random() < 0.5
        if batch is not None and self.chance.random() < 0.7:
            # The disk was at it: it has done all, and nobody was told, or the power failed before its first sync.
            self._power_failed = is_power_loss
            batch.perform()
            self._power_failed = False
        descriptor = member._journal._file.descriptor
        if is_power_loss:
            # What was appended and not synced is gone, or a part of it.
            status = os.fstat(descriptor)
            lost = max(0, status.st_size - self._synced.get(status.st_ino, status.st_size))
            os.ftruncate(
                descriptor, status.st_size - (lost and self.chance.choice((lost, self.chance.randint(0, lost))))
            )
        os.close(descriptor)
        for peer in NODES:
            if peer != node:
                self._part(node, peer)
        self._later(self.chance.uniform(*TROUBLE_S), partial(self._awaken, node))

    # Network

    def _join(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        if pair in self._link or one not in self.members or other not in self.members:
            return
        if (one, other) in self._cut or (other, one) in self._cut:
            self._later(0.1, partial(self._join, one, other))
            return
        self._link[pair] = next(self._order)
        for here, there in ((one, other), (other, one)):
            self._last[here, there] = self.now_s
            self._held[here, there] = []
            self.members[here].connected(there, True)
            self._tick(here)

    def _part(self, one: str, other: str) -> None:
        if self._link.pop(frozenset((one, other)), None) is None:
            return
        for here, there in ((one, other), (other, one)):
            if here in self.members:
                self.members[here].connected(there, False)
                self._tick(here)
        self._later(self.chance.uniform(0.01, 0.2), partial(self._join, one, other))

    def _send(self, here: str, there: str, message: RaftMessage) -> bool:
        number = self._link.get(frozenset((here, there)))
        if number is None:
            return False
        kind, body = WIRE.encode(message)
        at_s = max(self._last[here, there], self.now_s + self.chance.uniform(*DELAY_S))
        self._last[here, there] = at_s
        self._later(at_s - self.now_s, partial(self._arrive, here, there, number, kind, body))
        return True

    def _arrive(self, here: str, there: str, number: int, kind: int, body: bytes) -> None:
        if self._link.get(frozenset((here, there))) != number:
            return
        if (here, there) in self._cut or self._held[here, there]:
            self._held[here, there].append(partial(self._deliver, here, there, number, kind, body))
            return
        self._deliver(here, there, number, kind, body)

    def _deliver(self, here: str, there: str, number: int, kind: int, body: bytes) -> None:
        if self._link.get(frozenset((here, there))) == number:
            self.members[there].deliver(here, WIRE.decode(kind, body))  # type: ignore[arg-type]
            self._tick(there)

    def _heal(self) -> None:
        self._cut.clear()
        for way in list(self._held):
            held, self._held[way] = self._held[way], []
            for work in held:
                work()

    # Trouble and clients

    def _trouble(self) -> None:
        if self._quiet:
            return
        node = self.chance.choice(NODES)
        peer = self.chance.choice([other for other in NODES if other != node])
        match self.chance.randrange(8):
            case 0:
                self._crash(node)
            case 1:
                for each in NODES:
                    if self.chance.random() < 0.7:
                        self._crash(each)
            case 2 | 3:
                self.counts["break"] += 1
                self._part(node, peer)
            case 4 | 5:
                self.counts["cut"] += 1
                self._cut.add((node, peer))
            case 6:
                self.counts["cut"] += 1
                for other in NODES:
                    if other != node:
                        self._cut |= {(node, other), (other, node)}
            case 7:
                self._heal()
        self._later(self.chance.uniform(*TROUBLE_S), self._trouble)
        self._later(self.chance.uniform(0.1, 1.0), self._heal)

    def _ask(self) -> None:
        if self._quiet:
            return
        node = self.chance.choice(NODES)
        if node in self.members:
            self.counts["asked"] += 1
            command = f"{self.counts['asked']}".encode() + bytes(self.chance.choice((0, 0, 0, 3000)))
            self.members[node].submit(command, partial(self._answered, command))
            self._tick(node)
        self._later(self.chance.expovariate(100.0), self._ask)

    def _answered(self, command: bytes, applied: Applied | None, _reason: int) -> None:
        if applied is not None:
            if applied.mistake or self.agreed[int(applied.result)] != command:
                raise SystemExit(f"{command[:10]!r} was answered with {applied}")
            self.acknowledged.add(command)
