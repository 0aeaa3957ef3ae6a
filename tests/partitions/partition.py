"""One partition of a cluster whose program is asked from both sides: what was cut, who served when, what was lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

from kagemusha.demo.nodes import Machine
from tests.chaos.cgroup import Cgroup
from tests.cluster.redirect.on_nodes import KeepalivedOnNodes, by_keepalived
from tests.cluster.trio import DEADLINE_S, NAMES, Trio, say, trio
from tests.command_lines import command_lines
from tests.partitions.asker import IDENTITY, Asker
from tests.partitions.faults import HERE, THERE, Fault
from tests.partitions.judge import Heard, Sign, handovers_ms, lost, overlaps, primaries_of, turns, twice
from tests.partitions.switchboard import Switchboard
from tests.partitions.wire import Wire
from tests.restarts.restart import Holders

Driver = Literal["keepalived", "address"]
SERVED_S = 10.0
SILENT_S = 0.6
"""A primary that hears from nobody is silent then at the latest: its lease has 400 ms."""
ANSWERED_S = 15.0
_LOOK_S = 0.05
_ASK_S = 0.5


@dataclass(frozen=True, slots=True)
class Partition:
    """What came of one.

    moved: the node that serves after it, "" where it did before. promotions: that came of it. overlaps: in words, by
    whom. dropped: frames that the partition swallowed. handovers_ms: how long one had been silent when the next served.
    gap_ms: the longest that no client was answered. lost: numbers that were given out and taken back. whole_s: from its
    end until all mirrors were in sync again; answered_s: until both clients were answered again.
    """

    kind: str
    node: str
    cut_s: float
    moved: str
    promotions: int
    overlaps: tuple[str, ...]
    dropped: int
    handovers_ms: tuple[float, ...]
    gap_ms: float
    lost: int
    whole_s: float
    answered_s: float
    problems: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether nobody served beside another, the fault was one, and somebody serves."""
        return not self.overlaps and not self.problems


class Chronicle:
    """Which node was made the primary under which token, as any node's registry has it."""

    def __init__(self, cluster: Trio) -> None:
        self.nodes: dict[int, str] = {}
        self.leader = ""
        self._cluster = cluster

    async def keep(self) -> None:
        """Look again and again."""
        while True:
            for daemon in tuple(self._cluster.daemons.values()):
                try:
                    # wait_for() of Python 3.11 forgets that it was cancelled if the answer comes at the same time.
                    async with asyncio.timeout(_ASK_S):
                        view = await daemon.ask(do="view")
                except (TimeoutError, OSError):
                    continue
                if view is None:
                    continue
                self.leader = daemon.node.name if view["leads"] else self.leader
                for program in view["programs"].values():
                    self.nodes[program["token"]] = program["primary"]
            await asyncio.sleep(_LOOK_S)


class Stage:
    """A cluster, its bridge, and a client on each side."""

    def __init__(self, cluster: Trio) -> None:
        self.cluster = cluster
        self.board = Switchboard(cluster.directory.run_id)
        self.wire = Wire(self.board.network, NAMES)
        other = Machine(cluster.directory.run_id, THERE, len(NAMES) + 2)
        other.attach()
        self._identity = secrets.token_hex(8)
        with cluster.connect() as connection:
            say(connection, "SET", IDENTITY, self._identity)
        self.askers = (Asker(cluster.machines.client), Asker(other))
        self.chronicle = Chronicle(cluster)
        self._keeping = asyncio.create_task(self.chronicle.keep())

    async def close(self) -> None:
        """Ask and listen no more."""
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        for asker in self.askers:
            asker.close()
        self.wire.close()

    async def settled(self) -> tuple[str, str]:
        """Wait until all mirrors have what was written until now, the identity too; who serves, and who leads."""
        view = await self.cluster.served()
        await self.cluster.caught_up(view)
        return view["programs"]["redis"]["primary"], view["leader"]

    async def suffer(self, fault: Fault, *, guarded: bool = True) -> Partition:
        """Go through one partition and back. guarded: False: nobody on the cut-off node stops the program, so that two
        serve, and the checker has something to find."""
        problems: list[str] = []
        view = await self.cluster.served()
        first = view["programs"]["redis"]["token"]
        self._forget()
        await self._answered(time.time_ns(), problems)
        begun_ns = time.time_ns()
        with Holders(self.cluster) as holders:
            with contextlib.nullcontext() if guarded else self._unguarded(fault.node):
                cut_ns = time.time_ns()
                dropped = await self._hold(fault, problems)
            healed_ns = time.time_ns()
            if not fault.served:
                # What was on its way when the cable was cut has arrived.
                late = [one for one in self.wire.since(cut_ns + int(SILENT_S * 1e9)) if one.at_ns < healed_ns]
                problems += [f"{late[-1].node} answered for {(late[-1].at_ns - cut_ns) / 1e6:.0f} ms"] if late else []
            after = await self.cluster.served()
            whole_s = (time.time_ns() - healed_ns) / 1e9
            await self._answered(healed_ns, problems)
        answered_s = max(self._first_reply_after(asker, healed_ns) - healed_ns for asker in self.askers) / 1e9
        redis = after["programs"]["redis"]
        signs = self.wire.since(begun_ns)
        heard = self._heard()
        primaries = primaries_of(self.chronicle.nodes, first, redis["token"])
        served = turns(signs)
        wrong = overlaps(served, primaries)
        wrong += overlaps(turns(Sign(one.at_ns, one.node) for one in heard), primaries) + twice(heard)
        if holders.overlaps:
            wrong.append(f"two nodes were seen to have the address, {holders.overlaps} times")
        problems += self._identities()
        before = view["programs"]["redis"]["primary"]
        return Partition(
            kind=fault.kind,
            node=fault.node,
            cut_s=round(sum(fault.holds_s[::2]), 3),
            moved=redis["primary"] if redis["primary"] != before else "",
            promotions=redis["token"] - first,
            overlaps=tuple(wrong),
            dropped=dropped,
            handovers_ms=tuple(round(one, 1) for one in handovers_ms(served)),
            gap_ms=round(self._gap_ms(begun_ns), 1),
            lost=lost(heard),
            whole_s=round(whole_s, 3),
            answered_s=round(answered_s, 3),
            problems=tuple(problems),
        )

    async def suspend(self, node: str) -> list[str]:
        """All processes of the primary's node stand still together until another one serves, and go on as if nothing
        had been; gives what is wrong with it. Its kernel does not sleep with them, so that its cable is out meanwhile:
        it would say that the address is here, and take what clients send. When it wakes, replies are what counts."""
        wrong: list[str] = []
        first = (await self.cluster.served())["programs"]["redis"]["token"]
        pid = self.cluster.pid_of_redis(node)
        self._forget()
        await self._answered(time.time_ns(), wrong)
        with self._asleep(node):
            await self._until(partial(self._answer_since, time.time_ns()), SERVED_S, "nobody serves", wrong)
        woken_ns = time.time_ns()
        redis = (await self.cluster.served())["programs"]["redis"]
        await self._answered(woken_ns, wrong)
        await self.cluster.ended(pid)
        heard = self._heard()
        primaries = primaries_of(self.chronicle.nodes, first, redis["token"])
        wrong += overlaps(turns(Sign(one.at_ns, one.node) for one in heard), primaries) + twice(heard)
        if redis["primary"] == node:
            wrong.append(f"{node} serves, which slept")
        return wrong + self._identities()

    @contextmanager
    def _asleep(self, node: str) -> Iterator[None]:
        daemon = self.cluster.daemons.pop(node)  # Who asked it would wait for it.
        cgroup = Cgroup("freezer", f"asleep-{node}")
        cgroup.take_all(daemon.node.network.processes(), {})
        others = {*NAMES, HERE, THERE} - {node}
        try:
            cgroup.write("freezer.state", "FROZEN")
            self.board.cut({*((node, one) for one in others), *((one, node) for one in others)})
            yield
        finally:
            self.board.heal()
            cgroup.write("freezer.state", "THAWED")
            cgroup.release()
            self.cluster.daemons[node] = daemon

    async def _hold(self, fault: Fault, problems: list[str]) -> int:
        """Cut and heal as long as that is wanted; whether each cut was one. Gives the frames that were dropped."""
        dropped = 0
        for number, hold_s in enumerate(fault.holds_s):
            if number % 2:
                self.board.heal()
                await asyncio.sleep(hold_s)
                continue
            cut_ns = time.time_ns()
            self.board.cut(fault.ways)
            await asyncio.sleep(hold_s)
            last = number == len(fault.holds_s) - 1
            if last and fault.served:
                await self._until(partial(self._answer_since, cut_ns), SERVED_S, "nobody serves", problems)
            counts = self.board.dropped()
            dropped += sum(counts.values())
            between_nodes = [way for way in fault.ways if set(way) <= set(NAMES)]
            idle = [f"{a} to {b}" for a, b in between_nodes if not counts.get((a, b))]
            # Nodes speak to each other every 50 ms; a flap may be shorter than a retry.
            if idle and hold_s >= 1.0:
                problems.append(f"nothing was dropped from {', '.join(idle)}")
        self.board.heal()
        return dropped

    def _answer_since(self, at_ns: int) -> bool:
        return any(self._first_reply_after(asker, at_ns + int(SILENT_S * 1e9)) for asker in self.askers)

    def _first_reply_after(self, asker: Asker, at_ns: int) -> int:
        return next((one.heard_ns for one in tuple(asker.replies) if one.asked_ns > at_ns), 0)

    async def _answered(self, at_ns: int, problems: list[str]) -> None:
        def everybody() -> bool:
            return all(self._first_reply_after(asker, at_ns) for asker in self.askers)

        await self._until(everybody, ANSWERED_S, "a client has no answer though nothing is cut", problems)

    async def _until(self, is_so: Callable[[], bool], limit_s: float, what: str, problems: list[str]) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while not is_so():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            problems.append(f"{what} within {limit_s:g} s")

    def _forget(self) -> None:
        self.wire.forget(time.time_ns() - 1_000_000_000)
        for asker in self.askers:
            del asker.replies[:-1]

    def _heard(self) -> list[Heard]:
        return [
            Heard(asker.name, self.wire.sender(asker.address, one.heard_ns), one.heard_ns, one.number)
            for asker in self.askers
            for one in tuple(asker.replies)
        ]

    def _identities(self) -> list[str]:
        strange = {one.identity for asker in self.askers for one in tuple(asker.replies)} - {self._identity}
        return [f"an answer came from {', '.join(strange)}, which is not this program"] if strange else []

    def _gap_ms(self, begun_ns: int) -> float:
        times = sorted(one.heard_ns for asker in self.askers for one in tuple(asker.replies) if one.heard_ns > begun_ns)
        return max(((b - a) / 1e6 for a, b in pairwise(times)), default=0.0)

    @contextmanager
    def _unguarded(self, node: str) -> Iterator[None]:
        """Neither daemon nor watchdog of this node do anything: what no lease can survive."""
        daemon = self.cluster.daemons.pop(node)
        guards = {b"watchdog", b"tests.cluster.driven_node"}
        pids = [pid for pid, words in command_lines(daemon.node) if guards & set(words)]
        assert len(pids) >= 2, pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            self.cluster.daemons[node] = daemon


@asynccontextmanager
async def stage(driver: Driver) -> AsyncIterator[Stage]:
    """A cluster whose program's address this driver carries, and its clients."""
    kept: list[KeepalivedOnNodes] = []

    def furnish(cluster: Trio) -> None:
        nodes = cluster.machines.nodes
        keepalived = KeepalivedOnNodes(nodes)
        kept.append(keepalived)
        for name, node in nodes.items():
            program = node.own / "program.toml"
            program.write_text(by_keepalived(program.read_text()))
            with (node.own / "node.toml").open("a") as settings:
                settings.write(keepalived.settings(name))
            keepalived.furnish(name)
            keepalived.start(name)

    try:
        async with trio(furnish=furnish if driver == "keepalived" else lambda _: None) as cluster:
            one = Stage(cluster)
            try:
                yield one
            finally:
                one.board.heal()
                await asyncio.wait_for(one.close(), DEADLINE_S)
    finally:
        for keepalived in kept:
            keepalived.close()
