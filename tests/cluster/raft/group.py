"""A Raft group for tests: three members over loopback with real TLS, with a proxy on every way that can be cut."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.raft.lease import Leadership
from cluster.raft.member import Member
from cluster.raft.times import Times
from cluster.raft.transport import Address
from transport.acceptor import Acceptor
from transport.clock import boottime_s
from transport.pki import Authority
from transport.tls import Tls

NODES = ("a", "b", "c")
DEADLINE_S = 20.0
TIMES = Times()


class Counter:
    """A state machine: it keeps every command once, in order; the answer is how many it has."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.places: dict[bytes, int] = {}
        self.restored = 0

    def apply(self, command: bytes) -> bytes:
        if command == b"raise":
            raise ValueError("told to")
        if command not in self.places:
            self.commands.append(command)
            self.places[command] = len(self.commands)
        return str(self.places[command]).encode()

    def snapshot(self) -> bytes:
        return b"".join(struct.pack("<I", len(command)) + command for command in self.commands)

    def restore(self, state: bytes) -> None:
        self.restored += 1
        self.commands, self.places = [], {}
        place = 0
        while place < len(state):
            (size,) = struct.unpack_from("<I", state, place)
            self.apply(state[place + 4 : place + 4 + size])
            place += 4 + size


class Way:
    """A TCP proxy to one member, as another one dials it. Each direction can be cut: bytes wait, as behind a router."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._open = {True: asyncio.Event(), False: asyncio.Event()}
        for event in self._open.values():
            event.set()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.port: int = listener.getsockname()[1]
        self._acceptor = Acceptor(listener, self._serve)

    async def close(self) -> None:
        await self._acceptor.close()

    def cut(self, *, forth: bool, back: bool) -> None:
        """Cut what the dialler sends (forth) or what it receives (back), or both; what is not cut is whole again."""
        for forwards, is_cut in ((True, forth), (False, back)):
            if is_cut:
                self._open[forwards].clear()
            else:
                self._open[forwards].set()

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        except BaseException:
            writer.transport.abort()
            raise
        ways = [
            asyncio.create_task(self._carry(reader, far_writer, self._open[True])),
            asyncio.create_task(self._carry(far_reader, writer, self._open[False])),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.transport.abort()
            far_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
        try:
            while data := await reader.read(1 << 16):
                await is_open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, below those that the kernel gives away by itself."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def make_certificates(directory: Path, nodes: tuple[str, ...] = NODES) -> None:
    """A cluster authority's certificates, in `directory`/<node>."""
    authority = Authority.create("test")
    for node in nodes:
        authority.issue(node).save(directory / node)


class Group:
    """Members a, b and c in this process; `restart` and `stop` one by one."""

    def __init__(self, directory: Path, times: Times = TIMES) -> None:
        self.directory = directory
        self.times = times
        self.ports = dict(zip(NODES, free_ports(len(NODES)), strict=True))
        self.ways: dict[tuple[str, str], Way] = {}
        self.members: dict[str, Member] = {}
        self.machines: dict[str, Counter] = {}
        self.changes: list[tuple[float, str, Leadership]] = []
        self._changed: set[asyncio.Event] = set()
        make_certificates(directory / "pki")

    def open_ways(self) -> None:
        for dialler in NODES:
            for target in NODES:
                if dialler != target:
                    self.ways[dialler, target] = Way(("127.0.0.1", self.ports[target]))

    def make(
        self,
        node: str,
        *,
        cluster: str = "test",
        epoch: int = 1,
        layout: str = "",
        directory: str = "",
        port: int = 0,
        certificate: str = "",
        others: tuple[str, ...] = NODES,
    ) -> tuple[Member, Counter]:
        """A member as the configuration of `node` says, not started; others than usual where it is said."""
        machine = Counter()
        peers = {node: ("127.0.0.1", port or self.ports[node])}
        for peer in others:
            if peer != node:
                peers[peer] = ("127.0.0.1", self.ways[node, peer].port)
        member = Member(
            node,
            peers,
            Tls.load(self.directory / "pki" / (certificate or node)),
            self.directory / (directory or f"data-{node}"),
            machine.apply,
            machine.snapshot,
            machine.restore,
            lambda leadership: self._note(node, leadership),
            cluster=cluster,
            epoch=epoch,
            layout=layout,
            times=self.times,
        )
        return member, machine

    async def start(self, *nodes: str) -> None:
        for node in nodes or NODES:
            member, machine = self.make(node)
            await member.start()
            self.members[node], self.machines[node] = member, machine

    async def stop(self, *nodes: str) -> None:
        for node in nodes or tuple(self.members):
            await self.members.pop(node).close()
            self.machines.pop(node)

    async def close(self) -> None:
        await self.stop()
        for way in self.ways.values():
            await way.close()
        for _ in range(10):
            await asyncio.sleep(0)  # a transport that was aborted closes its socket in a later turn of the loop
        gc.collect()  # writers of ended TLS connections in cycles complain if they outlive the loop (Python 3.11)

    def cut(self, node: str, *, incoming: bool = True, outgoing: bool = True) -> None:
        """Cut a node off from both others: what it receives, what it sends, or both."""
        for (dialler, target), way in self.ways.items():
            if dialler == node:
                way.cut(forth=outgoing, back=incoming)
            elif target == node:
                way.cut(forth=incoming, back=outgoing)

    def heal(self) -> None:
        for way in self.ways.values():
            way.cut(forth=False, back=False)

    def _note(self, node: str, leadership: Leadership) -> None:
        self.changes.append((boottime_s(), node, leadership))
        for event in self._changed:
            event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; looked at after every change, and every few milliseconds."""
        event = asyncio.Event()
        self._changed.add(event)
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    event.clear()
                    try:
                        await asyncio.wait_for(event.wait(), 0.005)
                    except TimeoutError:
                        pass
        finally:
            self._changed.discard(event)

    def leader(self, *among: str) -> str | None:
        """Who holds the lease now."""
        now = boottime_s()
        holders = [node for node in among or tuple(self.members) if self.members[node].leadership().holds(now)]
        assert len(holders) <= 1, holders
        return holders[0] if holders else None

    async def elected(self, *among: str) -> str:
        """Wait for a leader with a lease; return who it is."""
        await self.until(lambda: self.leader(*among) is not None)
        leader = self.leader(*among)
        return leader if leader is not None else await self.elected(*among)

    def followers(self, leader: str) -> list[str]:
        return [node for node in NODES if node != leader]

    async def equal(self, *nodes: str) -> None:
        """Wait until all state machines have the same commands."""
        machines = [self.machines[node] for node in nodes or NODES]
        await self.until(lambda: all(machine.commands == machines[0].commands for machine in machines))


@asynccontextmanager
async def three(directory: Path, times: Times = TIMES) -> AsyncIterator[Group]:
    """A started group, closed at the end."""
    group = Group(directory, times)
    group.open_ways()
    try:
        await group.start()
        yield group
    finally:
        await group.close()
