"""kagemusha itself: three daemons, redis under them, and every kind of harm."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Literal

from kagemusha.client import Json
from kagemusha.demo.client import Client
from kagemusha.demo.cluster.furnishing import arrived
from kagemusha.demo.cluster.scenario import ClusterScenario
from kagemusha.demo.cluster.time_line import parts_ms
from kagemusha.demo.display import Display
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import ADDRESS, Machine, Machines
from kagemusha.demo.scenario import SETTLE_S, Before
from kagemusha.demo.story import PORT, Story
from tests.bench.takeover.kinds import HEALTH, Kind
from tests.bench.takeover.row import NS_PER_MS, One, judged
from tests.bench.takeover.stage import NODES, Load, Witnesses
from tests.cluster.redirect.on_nodes import KeepalivedOnNodes, by_keepalived
from tests.partitions.faults import HERE, THERE, fault
from tests.partitions.faults import Kind as Division
from tests.partitions.judge import primaries_of
from tests.partitions.switchboard import Switchboard
from tests.restarts.restart import kill_agent

Harmed = tuple[Json, dict[str, Any]]
"""What clients saw (`kagemusha.demo.ledger.Outcome`), and other fields of a `One`."""

Driver = Literal["address", "keepalived"]
DRIVERS: Final[tuple[Driver, ...]] = ("address", "keepalived")
_DIVISIONS: Final[tuple[Division, ...]] = ("primary", "primary_in", "primary_out")
_SIDES: Final = {HERE: THERE, THERE: HERE}
_LEADS: Final[dict[Kind, bool]] = {"node_killed": False, "leader_node_killed": True}
_FAR_HOST_NUMBER: Final = 9
_FAR_FIRST: Final = 100
_FAR_PER_SECOND: Final = 200
_TRIES: Final = 5
_WARM_UP_S: Final = 0.5
_TOLD_S: Final = 5.0
_LEASE_OVER_S: Final = 1.5


class ClusterBench(ClusterScenario):
    """One cluster for any number of runs: whoever failed comes back as a mirror. health: whether the program is asked
    for its health."""

    def __init__(self, display: Display, machines: Machines, load: Load, driver: Driver, *, health: bool) -> None:
        story = Story(load.memory_mib, warm_up_s=_WARM_UP_S, idle=load.idle, busy=load.busy, anew=load.anew)
        super().__init__(story, display, machines)
        self._load, self._health = load, health
        self._keepalived = KeepalivedOnNodes(machines.nodes) if driver == "keepalived" else None
        far = Machine(machines.directory.run_id, THERE, _FAR_HOST_NUMBER)
        far.attach()
        self._far_client = Client(far, machines.directory.logs / "client-far.log")
        self._has_far_clients = False
        self._board = Switchboard(machines.directory.run_id)
        self._witnesses = Witnesses(machines.nodes, [machines.client, far])
        self._runs = 0
        self._token = ""
        self._harms: dict[Kind, Callable[[Before], Awaitable[Harmed]]] = {
            "process_killed": self._process_killed,
            "agent_killed": self._agent_killed,
            "switchover": self._switched,
            "node_killed": self._node_killed,
            "leader_node_killed": self._node_killed,
            "daemon_stopped": self._daemon_stopped,
            "partition": self._divided,
            "program_hung": self._program_hung,
        }

    async def open(self) -> None:
        """Have everything there: nodes, program, mirrors, clients that write. Raises DemoError."""
        self._token = self._furnish()
        for name, node in self._machines.nodes.items():
            if self._keepalived is not None:
                self._keepalived.furnish(name)
                self._keepalived.start(name)
                settings, program = node.own / "node.toml", node.own / "program.toml"
                settings.write_text(f"{settings.read_text()}\n{self._keepalived.settings(name)}")
                program.write_text(by_keepalived(program.read_text()))
            if self._health:
                with (node.own / "program.toml").open("a") as program_file:
                    program_file.write(HEALTH)
        await self._start_cluster(self._token)
        await self._start_program()
        await self._ask("rate", per_second=self._load.per_second)

    async def close(self) -> None:
        """See `Scenario`; after the machines are gone."""
        self._witnesses.close()
        await self._far_client.close()
        await super().close()
        if self._keepalived is not None:
            self._keepalived.close()

    async def run(self, kind: Kind) -> One:
        """One takeover of this kind, and back to a program with all of its mirrors. Raises DemoError."""
        before = await self._ready(kind)
        self._witnesses.listen()
        with self._display.task(f"{kind} on node {before.source}") as task:
            outcome, more = await self._harms[kind](before)
            program = await self._api.program()
            tokens = {before.token: before.source, program["token"]: program["primary"]}
            overlaps = self._witnesses.overlaps(primaries_of(tokens, before.token, program["token"]))
            oldest_ns = outcome["oldest_lost_ns"]
            beyond = oldest_ns is not None and oldest_ns < before.polled_ns - before.staleness_ms * NS_PER_MS
            taken_over = program["token"] != before.token
            one = judged(outcome, overlaps=overlaps, beyond=beyond, taken_over=taken_over, **more)
            task.result = f"{one.gap_ms:.1f} ms"
        return one

    async def _ready(self, kind: Kind) -> Before:
        """Clients write, mirrors are in step, and who leads is as the kind wants it; that may change at any time."""
        for _ in range(_TRIES):
            if kind in _LEADS and await self._place(_LEADS[kind]):
                continue
            await self._settle_idle_connections()
            await self._writes_per_second(_WARM_UP_S)
            before = await self._poll()
            if _LEADS.get(kind, before.leads) == before.leads:
                return before
        raise DemoError(f"{kind}: who leads changes all the time", hint=f"see {self._machines.directory.logs}")

    async def _place(self, leads: bool) -> bool:
        """Have the primary on the leader's node, or on another; whether it had to be moved."""
        leader, primary = await self._leader(), (await self._api.program())["primary"]
        if (primary == leader) is leads:
            return False
        await self._api.switch_over(leader if leads else next(name for name in NODES if name != leader))
        await self._wait_for_mirrors()
        return True

    # What is done to it: each gives what clients saw, and what else there is to say of the run

    async def _process_killed(self, before: Before) -> Harmed:
        return await self._taken_over(before, await self._kill_program(before))

    async def _program_hung(self, before: Before) -> Harmed:
        event_ns = time.monotonic_ns()
        os.kill(before.pid, signal.SIGSTOP)
        return await self._taken_over(before, event_ns)

    async def _switched(self, before: Before) -> Harmed:
        return await self._taken_over(before, await self._switch_over(before))

    async def _node_killed(self, before: Before) -> Harmed:
        event_ns = await self._kill_node(before)
        outcome, parts = await self._seen(before, event_ns)
        await self._daemons[before.source].boot()
        if self._keepalived is not None:
            self._keepalived.start(before.source)
        await self._wait_for_mirrors(f"node {before.source} is back")
        return outcome, {"parts_ms": parts}

    async def _daemon_stopped(self, before: Before) -> Harmed:
        event_ns = time.monotonic_ns()
        self._daemons[before.source].send(signal.SIGSTOP)
        try:
            # Until the lease has ended clients see nothing of it. Who is stopped answers nobody, and who still takes it
            # for the leader passes questions on to it: by then there is another leader, too.
            await self._writes_per_second(_LEASE_OVER_S)
            async with self._asking(name for name in NODES if name != before.source):
                parts = await self._parts(before)
            outcome = (await self._ask("settle", event_ns=event_ns))["outcome"]
        finally:
            self._daemons[before.source].send(signal.SIGCONT)
        await self._wait_for_mirrors()
        return outcome, {"parts_ms": parts, "note": _led(before)}

    @asynccontextmanager
    async def _asking(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Only these nodes are asked within the block."""
        kept, self._operator = self._operator, await arrived(self._machines, self._token, names)
        try:
            yield
        finally:
            await self._operator.close()
            self._operator = kept

    async def _agent_killed(self, before: Before) -> Harmed:
        event_ns = time.monotonic_ns()
        await kill_agent(self._machines.nodes[before.source])
        await self._wait_for_mirrors("another agent, and mirrors of its own")
        # What clients wait for comes when the next agent stops the program for the first time.
        outcome = (await self._ask("settle", event_ns=event_ns))["outcome"]
        return outcome, {}

    async def _divided(self, before: Before) -> Harmed:
        """Clients on both sides; those of the primary's side are asked when the network is whole again."""
        kind = _DIVISIONS[self._runs % len(_DIVISIONS)]
        self._runs += 1
        cut = fault(kind, before.source, before.source, NODES, random.Random(0)).ways
        # Measured are those who stay with the majority.
        ways = {(_SIDES.get(sender, sender), _SIDES.get(receiver, receiver)) for sender, receiver in cut}
        await self._have_far_clients()
        event_ns = time.monotonic_ns()
        self._board.cut(ways)
        try:
            outcome, parts = await self._seen(before, event_ns)
        finally:
            self._board.heal()
        await self._wait_for_mirrors()
        far = (await self._far_client.ask("settle", event_ns=event_ns, deadline_s=SETTLE_S))["outcome"]
        # How long they waited says how long it was divided, and nothing else.
        problems = [f"on the primary's side: {what}" for what in (*far["foreign"], *far["silent"])]
        lost_far = {"writes_lost": outcome["writes_lost"] + far["writes_lost"]}
        return {**outcome, **lost_far, "foreign": [*outcome["foreign"], *problems]}, {"parts_ms": parts, "note": kind}

    async def _have_far_clients(self) -> None:
        if self._has_far_clients:
            return
        self._has_far_clients = True
        await self._far_client.start()
        counts = {"idle": 0, "busy": 2, "anew": 1, "first": _FAR_FIRST}
        await self._far_client.ask("connect", host=ADDRESS, port=PORT, **counts)
        await self._far_client.ask("rate", per_second=_FAR_PER_SECOND)
        await self._far_client.ask("measure", seconds=_WARM_UP_S)

    # What came of it

    async def _taken_over(self, before: Before, event_ns: int) -> Harmed:
        outcome, parts = await self._seen(before, event_ns)
        await self._wait_for_mirrors()
        return outcome, {"parts_ms": parts}

    async def _seen(self, before: Before, event_ns: int) -> tuple[Json, dict[str, float]]:
        """What the clients saw, once all of them are served again, and the leader's parts of it."""
        answer = await self._ask("settle", event_ns=event_ns)
        return answer["outcome"], await self._parts(before)

    async def _parts(self, before: Before) -> dict[str, float]:
        """None where no leader knows any more: it is known as long as the same node leads."""
        found: dict[str, float] = {}

        async def told() -> bool:
            program = await self._api.program()
            promotion = program["last_promotion"]
            if program["token"] == before.token or promotion["served_at"] is None:
                return False
            found.update(parts_ms(promotion))
            return True

        with suppress(DemoError):
            await self._until(told, _TOLD_S, "no takeover is told")
        return found


def _led(before: Before) -> str:
    return "leads" if before.leads else "does not lead"
