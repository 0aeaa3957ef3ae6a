"""This node's member of the Raft group: what the rest of the cluster sees of agreement.

Commands are bytes; what they mean is the state machine's affair. The same bytes may be applied twice (a proposal whose
answer was lost is sent again): the state machine must take the second as no change, with the same result.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from cluster.raft.consensus import Consensus
from cluster.raft.disk import Batch, Disk
from cluster.raft.driver import Driver
from cluster.raft.errors import (
    ApplyFailed,
    CommandTooLong,
    NoQuorum,
    Overloaded,
    RaftError,
    StorageError,
    UnknownOutcome,
)
from cluster.raft.journal import Journal
from cluster.raft.lease import Leadership
from cluster.raft.machine import Applied, Machine
from cluster.raft.snapshots import SnapshotStore
from cluster.raft.storage import DataDirectory
from cluster.raft.times import Times
from cluster.raft.transport import Address, Transport
from cluster.raft.wire import COMMAND_BYTES_MAX, WIRE_FORMAT, Hello, RaftMessage
from cluster.raft.writer import Writer
from transport.clock import boottime_s
from transport.errors import ConfigError
from transport.tls import Tls

RETRY_S: Final = 0.01
PROPOSALS_MAX: Final = 128
"""Proposals of one member that are under way at once; others wait. More would only make the event loop stutter."""
_NOT_TAKEN: Final = {1, 2, 3, 4, 6}
"""FAIL_REASONs of pysyncobj after which the command is certainly not agreed: QUEUE_FULL, MISSING_LEADER, DISCARDED,
NOT_LEADER, REQUEST_DENIED. After the others (LEADER_CHANGED, UNKNOWN_OUTCOME) it may be."""

log = structlog.get_logger()


class Member:
    """One member, between `start` and `close`.

    node: its id, as in its certificate. peers: where each member listens, this one among them. directory: its data,
    used by nobody else. apply, snapshot, restore: the state machine; called in the event loop, must not block; apply
    must be deterministic. on_change: called in the event loop when the leader, the term, or whether this member may act
    as the leader has changed; a lease that merely runs out is noticed up to a heartbeat late, so compare
    `lease_until_s` with the clock before every act. cluster, epoch, layout: the group's name, the number of its
    configuration, and a digest of where all members are; members with other ones are refused.
    """

    def __init__(
        self,
        node: str,
        peers: Mapping[str, Address],
        tls: Tls,
        directory: Path,
        apply: Callable[[bytes], bytes],
        snapshot: Callable[[], bytes],
        restore: Callable[[bytes], None],
        on_change: Callable[[Leadership], None],
        *,
        cluster: str,
        epoch: int = 1,
        layout: str = "",
        times: Times | None = None,
    ) -> None:
        if node not in peers:
            raise ConfigError(f"node {node} is not among the members {', '.join(sorted(peers))}")
        if tls.node != node:
            raise ConfigError(f"this is node {node}, but its certificate is of node {tls.node}")
        self.node = node
        self.failure: StorageError | None = None
        self._members = tuple(sorted(peers))
        self._times = times or Times()
        self._hello = Hello(WIRE_FORMAT, cluster, epoch, node, secrets.token_hex(8), self._members, layout)
        self._directory = directory
        self._machine = Machine(apply, snapshot, restore)
        self._on_change = on_change
        self._stood = 0
        self._told = Leadership(None, 0, None), False
        self._waiting: set[asyncio.Future[None]] = set()
        self._pending: set[asyncio.Future[tuple[Applied | None, int]]] = set()
        self._failed = asyncio.Event()
        self._window = asyncio.Semaphore(PROPOSALS_MAX)
        self._data: DataDirectory | None = None
        others = {peer: address for peer, address in peers.items() if peer != node}
        self._transport = Transport(
            self._hello, peers[node], others, tls, self._times, self._heard, self._linked, boottime_s
        )
        self._consensus: Consensus | None = None
        self._driver: Driver | None = None
        self._writer: Writer | None = None
        self._silence: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read what is kept, apply it, listen, and take part.

        Raises DirectoryInUse (another daemon or another node's data), StorageError (damaged files), PeerRefused (the
        address can't be used).
        """
        self._data = DataDirectory(self._directory, self._hello.cluster, self.node)
        try:
            disk = Disk()
            self._consensus = self._awaken(disk)
            self._writer = Writer(disk, self._settled)
            self._driver = Driver(self._consensus, self._writer.go, self._after_tick, self._fail)
            await self._transport.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave the group's conversation; the others go on without. Proposals under way have an unknown outcome."""
        if self._driver is not None:
            self._driver.stop()
        try:
            if self._silence is not None:
                await self._silence
            await self._transport.close()
        finally:
            self._end_proposals(UnknownOutcome(f"node {self.node} stops", hint="ask again on another node"))
            self._let_go()

    def _let_go(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._consensus is not None:
            consensus, self._consensus = self._consensus, None
            try:
                consensus.close()
            except StorageError as failure:
                log.error("the journal could not be closed", reason=failure.what)
        if self._data is not None:
            data, self._data = self._data, None
            data.close()

    async def propose(self, command: bytes, timeout_s: float) -> bytes:
        """Have `command` agreed and applied, here too; return the state machine's result. Any member may be asked.

        Raises NoQuorum (not proposed, within timeout_s), UnknownOutcome, CommandTooLong, Overloaded (not proposed),
        ApplyFailed, StorageError.
        """
        if len(command) > COMMAND_BYTES_MAX:
            raise CommandTooLong(f"a command of {len(command)} bytes; at most {COMMAND_BYTES_MAX}")
        end = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(end):
                await self._window.acquire()
        except TimeoutError:
            raise Overloaded(f"more than {PROPOSALS_MAX} proposals are under way for {timeout_s:g} s") from None
        try:
            return await self._propose(command, end, timeout_s)
        finally:
            self._window.release()

    async def _propose(self, command: bytes, end: float, timeout_s: float) -> bytes:
        maybe_agreed = False
        while True:
            if not await self._ready_until(end):
                raise self._unknown(timeout_s) if maybe_agreed else self._no_quorum()
            try:
                async with asyncio.timeout_at(end):
                    applied, reason = await self._submit(command)
            except TimeoutError:
                raise self._unknown(timeout_s) from None
            if applied is not None:
                if applied.mistake:
                    raise ApplyFailed(f"the state machine failed on a command: {applied.mistake}")
                return applied.result
            maybe_agreed = maybe_agreed or reason not in _NOT_TAKEN
            await asyncio.sleep(RETRY_S)

    def leadership(self) -> Leadership:
        """Return who leads, and until when this member may act as the leader."""
        if self._consensus is None or self.failure is not None:
            return Leadership(None, 0, None)
        return self._consensus.leadership()

    def absent(self) -> tuple[str, ...]:
        """Return the members that were not heard a moment ago."""
        return tuple(n for n in self._members if n != self.node and not self._transport.in_reach(n))

    @property
    def troubles(self) -> dict[str, str]:
        """Why there is no link to a member, by member: refusals, and connections that fail. One line each."""
        return self._transport.troubles

    async def failed(self) -> StorageError:
        """Wait until this member has stopped because its storage failed; return why."""
        await self._failed.wait()
        return self.failure or StorageError("the storage failed")

    # Inside

    def _awaken(self, disk: Disk) -> Consensus:
        journal = Journal(self._directory, disk)
        others = [peer for peer in self._members if peer != self.node]
        snapshots = SnapshotStore(self._directory, self._machine.snapshot, disk)
        send = self._transport.send
        try:
            return Consensus(self.node, others, self._times, disk, journal, snapshots, self._machine, send, boottime_s)
        except BaseException:
            journal.close()
            raise

    async def _submit(self, command: bytes) -> tuple[Applied | None, int]:
        if self._driver is None or self._consensus is None:
            raise RaftError(f"node {self.node} is not running")
        future: asyncio.Future[tuple[Applied | None, int]] = asyncio.get_running_loop().create_future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._driver.perform(partial(self._consensus.submit, command, partial(_settle, future)))
        return await future

    async def _ready_until(self, end: float) -> bool:
        """Wait until a command can be proposed; return False when that was not so before `end`."""
        while True:
            if self.failure is not None:
                raise self.failure
            if self._consensus is None:
                raise RaftError(f"node {self.node} is not running")
            if self._ready(self._consensus):
                return True
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                async with asyncio.timeout_at(end):
                    await future
            except TimeoutError:
                return False
            finally:
                self._waiting.discard(future)

    def _ready(self, consensus: Consensus) -> bool:
        leader = consensus.leadership().leader
        if leader is None:
            return False
        return consensus.has_quorum() if leader == self.node else self._transport.in_reach(leader)

    def _heard(self, peer: str, message: RaftMessage) -> None:
        if self._driver is not None and self._consensus is not None:
            self._driver.perform(partial(self._consensus.deliver, peer, message))

    def _settled(self, batch: Batch) -> None:
        if self._driver is not None and self._consensus is not None:
            self._driver.perform(partial(self._consensus.settle, batch))

    def _linked(self, peer: str, up: bool) -> None:
        if self._driver is not None and self._consensus is not None:
            self._driver.perform(partial(self._consensus.connected, peer, up))

    def _after_tick(self) -> None:
        if self._consensus is None or self._writer is None:
            return
        self._writer.go_soon()
        if self._waiting and self._ready(self._consensus):
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
        stood, silent_s = self._consensus.elections
        if stood != self._stood:
            self._stood = stood
            log.info(
                "no leader is heard: this member stands", silent_ms=round(silent_s * 1000), term=self._consensus.term
            )
        now = self._consensus.leadership()
        holds = now.holds(boottime_s())
        before, held = self._told
        if (now.leader, now.term, holds) != (before.leader, before.term, held):
            self._told = now, holds
            self._on_change(now)

    def _fail(self, error: StorageError) -> None:
        # Before anything is said of it: what is said may fail, too, and nobody else will know.
        self.failure = error
        self._failed.set()
        log.error("this node takes no part in agreement any more", reason=error.what)
        self._end_proposals(error)
        self._told = Leadership(None, 0, None), False
        self._on_change(self._told[0])
        self._silence = asyncio.create_task(self._transport.close())

    def _end_proposals(self, error: RaftError) -> None:
        futures: list[asyncio.Future[Any]] = [*self._waiting, *self._pending]
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def _no_quorum(self) -> NoQuorum:
        absent = self.absent()
        needed = len(self._members) // 2 + 1
        missing = max(0, needed - (len(self._members) - len(absent)))
        return NoQuorum(missing, len(self._members), absent, self.troubles)

    def _unknown(self, timeout_s: float) -> UnknownOutcome:
        return UnknownOutcome(
            f"no agreement within {timeout_s:g} s; the command may still be agreed",
            hint="ask again with the same request id",
        )


def _settle(future: asyncio.Future[tuple[Applied | None, int]], applied: Applied | None, reason: int) -> None:
    if not future.done():
        future.set_result((applied, reason))
