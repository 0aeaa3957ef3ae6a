"""The cluster that is harmed: three nodes with real daemons, a program that is mirrored, clients, and who looks on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.admin.auth import entry_text, make_token
from kagemusha.client import Json
from kagemusha.demo.cluster.daemon import ADMIN_PORT, Daemon, node_toml
from kagemusha.demo.cluster.operator import Operator
from kagemusha.demo.errors import DemoError
from kagemusha.demo.namespace import NetworkNamespace
from kagemusha.demo.nodes import ADDRESS, PREFIX, Directory, Machines, Node
from kagemusha.demo.story import PORT
from tests.chaos.carrier import Keepalived
from tests.chaos.evidence import Agreed, Census, Report
from tests.chaos.keeper import Keeper
from tests.chaos.plan import Target
from tests.chaos.processes import Role, open_descriptors, pid_of, processes
from tests.chaos.programs import Setup, command_of, definition_of
from tests.chaos.witness import Witness
from transport.pki import AUTHORITY_CERTIFICATE, Authority

NAMES = ("a", "b", "c")
START_S = 120.0
WHOLE_S = 150.0
_ASK_S = 3.0
_LOOK_AGAIN_S = 0.1
_HISTORY_MAX = 1000
_TRIES = 5


class SceneError(Exception):
    """The cluster does not come up, or can't be asked: nothing of the product was judged yet."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Which node has which role."""

    primary: str
    leader: str

    def node_of(self, target: Target, chance: random.Random) -> str:
        """The node that is meant; for a mirror or a follower one of them, by chance."""
        match target:
            case "primary":
                return self.primary
            case "leader":
                return self.leader
            case "mirror":
                return chance.choice([name for name in NAMES if name != self.primary])
            case "follower":
                return chance.choice([name for name in NAMES if name != self.leader])

    def stands_by(self, node: str) -> bool:
        """Whether it neither serves nor leads: its loss costs nothing."""
        return node not in (self.primary, self.leader)


class Scene:
    """Open it, harm it, close it."""

    def __init__(self, directory: Directory, setup: Setup) -> None:
        self.directory = directory
        self.machines = Machines(directory, NAMES)
        self.bridge = NetworkNamespace(f"{PREFIX}{directory.run_id}-bridge")
        self.authority = Authority.create("chaos")
        self.keepers = {
            name: Keeper(Daemon(node), Keepalived(node) if setup.driver == "keepalived" else None)
            for name, node in self.nodes.items()
        }
        self.reports: list[Report] = []
        self._operators: dict[str, Operator] = {}
        self._definition = definition_of(setup, directory)
        self._program = str(command_of(setup.program, directory)[0]).encode()
        self._load = Witness("load", directory.path)
        self._sniffer = Witness("sniffer", directory.path)
        self._reporter: asyncio.Task[None] | None = None

    @property
    def nodes(self) -> dict[str, Node]:
        """By name."""
        return self.machines.nodes

    # ------------------------------------------------------------ its beginning and its end

    async def open(self) -> None:
        """Until the program is served, mirrored and written to. Raises SceneError, DemoError."""
        token, digest = make_token()
        for node in self.nodes.values():
            self.authority.issue(node.name).save(node.own_path("pki")[0])
            for name, text in (
                ("program.toml", self._definition),
                ("node.toml", node_toml(node, self.nodes.values()) + self._more_settings(node.name)),
                ("tokens.toml", entry_text("chaos", "admin", digest)),
            ):
                node.own_path(name)[0].write_text(text)
        for keeper in self.keepers.values():
            await keeper.start()
        await self._meet(token)
        await self._until_there()
        await self.operator.create(self.directory.node / "program.toml", NAMES)
        await self.until_whole(START_S)
        await self._sniffer.start(["nsenter", f"--net={self.bridge.path}", "--"], "tests.chaos.sniffer", ADDRESS)
        await self._load.start(self.machines.client.command(), "tests.chaos.load", ADDRESS, str(PORT))
        self._reporter = asyncio.ensure_future(self._report())

    def _more_settings(self, name: str) -> str:
        carrier = self.keepers[name].carrier
        return "" if carrier is None else f"\n{carrier.settings}"

    async def _meet(self, token: str) -> None:
        endpoints = {name: f"{node.address}:{ADMIN_PORT}" for name, node in self.nodes.items()}
        certificate = self.nodes[NAMES[0]].own_path("pki")[0] / AUTHORITY_CERTIFICATE
        for who, asked in (("", list(endpoints.values())), *((name, [one]) for name, one in endpoints.items())):
            self._operators[who] = Operator(asked, token, certificate, self.directory.logs)
            await self._operators[who].arrive(self.machines.client)

    async def witnesses(self) -> Sequence[Path]:
        """End the load and the look at the bridge; gives the files of what they have seen. Raises WitnessError."""
        load = await self._load.finish()
        if self._reporter is not None:
            self._reporter.cancel()
        return [load, await self._sniffer.finish()]

    async def close(self) -> None:
        """Kill everything."""
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.gather(self._reporter, return_exceptions=True)
        for operator in self._operators.values():
            await operator.close()
        for keeper in self.keepers.values():
            keeper.leave()
        await asyncio.to_thread(self.machines.close)
        for witness in (self._load, self._sniffer):
            await witness.close()
        for keeper in self.keepers.values():
            await keeper.close()

    # ------------------------------------------------------------ what is known of it

    @property
    def operator(self) -> Operator:
        """Who asks whatever node answers."""
        return self._operators[""]

    async def ask(self, question: Any) -> Any:
        """An answer within three seconds. Raises DemoError, TimeoutError."""
        return await asyncio.wait_for(question, _ASK_S)

    async def roles(self) -> Roles:
        """Who is who now; waits for a primary and a leader. Raises SceneError."""
        end_s = time.monotonic() + WHOLE_S
        while time.monotonic() < end_s:
            try:
                primary = (await self.ask(self.operator.program()))["primary"]
                leader = next((one["node"] for one in await self.ask(self.operator.nodes()) if one["leader"]), None)
            except (DemoError, TimeoutError):
                leader = primary = None
            if primary and leader:
                return Roles(str(primary), str(leader))
            await asyncio.sleep(_LOOK_AGAIN_S)
        raise SceneError("there is no primary, or no leader")

    def pid(self, node: str, role: Role) -> int:
        """Raises NoProcess."""
        return pid_of(self.nodes[node], role, self._program)

    def pids(self, node: str, role: Role) -> list[int]:
        """All processes of a role."""
        return [pid for found, pid in processes(self.nodes[node], self._program) if found == role]

    def census(self) -> list[Census]:
        """How many processes and descriptors there are, by node and role."""
        found: list[Census] = []
        for name, node in self.nodes.items():
            by_role: dict[Role, list[int]] = {}
            for role, pid in processes(node, self._program):
                by_role.setdefault(role, []).append(len(open_descriptors(pid)))
            at_ns = time.monotonic_ns()
            found += [Census(at_ns, name, role, len(counts), sum(counts)) for role, counts in by_role.items()]
        return found

    async def history(self) -> list[Agreed]:
        """As each node tells it. Raises SceneError."""
        told = []
        for name in NAMES:
            for event in await self._history_of(name):
                fields = {key: event[key] for key in ("index", "kind", "program", "node", "text")}
                told.append(Agreed(teller=name, **fields))
        return told

    async def _history_of(self, name: str) -> list[Json]:
        trouble: Exception | None = None
        for _ in range(_TRIES):
            try:
                return list(await self.ask(self._operators[name].history(_HISTORY_MAX)))
            except (DemoError, TimeoutError) as error:
                trouble = error
        raise SceneError(f"node {name} does not tell its history: {trouble or 'no answer in time'}")

    async def until_whole(self, deadline_s: float = WHOLE_S) -> str:
        """Wait until all nodes are there and every other one mirrors the primary; "" then, else what is missing."""
        end_s = time.monotonic() + deadline_s
        while missing := await self._missing():
            if time.monotonic() > end_s:
                return missing
            await asyncio.sleep(_LOOK_AGAIN_S)
        return ""

    async def _missing(self) -> str:
        try:
            nodes = await self.ask(self.operator.nodes())
            program = await self.ask(self.operator.program())
            status = await self.ask(self.operator.status(program["primary"])) if program["primary"] else None
        except (DemoError, TimeoutError) as error:
            return f"the API does not answer: {error or 'in time'}"
        return what_is_missing(nodes, program, status)

    async def _until_there(self) -> None:
        end_s = time.monotonic() + START_S
        while True:
            try:
                nodes = await self.ask(self.operator.nodes())
                if all(one["alive"] for one in nodes) and any(one["leader"] for one in nodes):
                    return
            except (DemoError, TimeoutError):
                pass
            if time.monotonic() > end_s:
                raise SceneError(f"the nodes do not come together; see {self.directory.logs}")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _report(self) -> None:
        """Ask for the staleness, again and again."""
        while True:
            asked_ns = time.monotonic_ns()
            try:
                program = await self.ask(self.operator.program())
                status = await self.ask(self.operator.status(program["primary"]))
            except (DemoError, TimeoutError):
                pass
            else:
                lag_ms = status["lag_ms"] if status["token"] == program["token"] else None
                self.reports.append(Report(asked_ns, program["token"], program["primary"], lag_ms))
            await asyncio.sleep(_LOOK_AGAIN_S)


def what_is_missing(nodes: Sequence[Json], program: Json, status: Json | None) -> str:
    """ "" if everything is there and every mirror follows the primary; else the first thing that is not so."""
    away = [one["node"] for one in nodes if not one["alive"]]
    if away:
        return f"node {', '.join(away)} is not there"
    if status is None or program["fenced"]:
        return "nobody serves"
    if status["token"] != program["token"]:
        return f"the primary's agent has token {status['token']}, agreed is {program['token']}"
    late = [one["instance"] for one in program["instances"] if one["status"] != "mirrored"]
    if late:
        return f"not mirrored: {', '.join(late)}"
    following = {one["instance"] for one in status["mirrors"] if one["state"] == "following"}
    waiting = [one["instance"] for one in program["instances"] if one["role"] == "mirror"]
    lagging = [name for name in waiting if name not in following]
    return f"does not follow yet: {', '.join(lagging)}" if lagging else ""
