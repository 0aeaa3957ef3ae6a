"""The cluster that is harmed: three nodes with real daemons, a program that is mirrored, clients, and who looks on."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cluster.admin.auth import entry_text, make_token
from kagemusha.demo.cluster.daemon import ADMIN_PORT, node_toml
from kagemusha.demo.namespace import NetworkNamespace
from kagemusha.demo.nodes import ADDRESS, PREFIX, Directory, Machines, Node
from kagemusha.demo.story import PORT
from tests.chaos.administrator import Administrator
from tests.chaos.carrier import Keepalived
from tests.chaos.daemon import ReleasedDaemon
from tests.chaos.evidence import Census, RegistryOperation, Sample
from tests.chaos.keeper import Keeper
from tests.chaos.observed import Observed
from tests.chaos.observer import START_S, Observer, SceneError
from tests.chaos.processes import REGISTERED, NoProcess, Role, open_descriptors, pid_of, processes, resident_kib
from tests.chaos.programs import Setup, command_of, definition_of
from tests.chaos.registrars import DEFINITION, PROGRAM, Registrars
from tests.chaos.sampler import Sampler
from tests.chaos.stage import Harm
from tests.chaos.witness import Witness
from transport.pki import AUTHORITY_CERTIFICATE, Authority

NAMES = ("a", "b", "c")
Making = Callable[["Scene", str, random.Random], Harm]
"""Of a fault that strikes a scene: at which node, and by what chance."""


class Scene(Observed):
    """A `Stage` of namespaces. faults: what may harm it, by kind."""

    def __init__(self, directory: Directory, setup: Setup, faults: Mapping[str, Making]) -> None:
        super().__init__()
        self.directory = directory
        self.machines = Machines(directory, NAMES)
        self.bridge = NetworkNamespace(f"{PREFIX}{directory.run_id}-bridge")
        self.authority = Authority.create("chaos")
        self.keepers = {
            name: Keeper(ReleasedDaemon(node), Keepalived(node) if setup.driver == "keepalived" else None)
            for name, node in self.nodes.items()
        }
        self._faults = faults
        self._registrars: Registrars | None = None
        self._sampler: Sampler | None = None
        self._definition = definition_of(setup, directory)
        self._program = str(command_of(setup.program, directory)[0]).encode()
        self._load = Witness("load", directory.path)
        self._sniffer = Witness("sniffer", directory.path)

    @property
    def nodes(self) -> dict[str, Node]:
        """By name."""
        return self.machines.nodes

    # ------------------------------------------------------------ its beginning and its end

    async def open(self) -> None:
        """See `Stage`."""
        enter = ["nsenter", f"--net={self.bridge.path}", "--"]
        sniffer = asyncio.ensure_future(self._sniffer.start(enter, "tests.chaos.sniffer", ADDRESS))
        try:
            await self.assemble()
        finally:
            await sniffer
        await self._load.start(self.machines.client.command(), "tests.chaos.load", ADDRESS, str(PORT), "")
        each = {name: self._operators[name] for name in NAMES}
        self._sampler = Sampler(self.nodes, each, self._program)
        self._reporter = asyncio.ensure_future(self._look_on(self._sampler))
        through = {name: self._operators[f"registrar-{name}"] for name in NAMES}
        self._registrars = Registrars(through, self.directory.node / REGISTERED)
        self._registrars.start()

    async def _look_on(self, sampler: Sampler) -> None:
        await asyncio.gather(self.observer.report(), sampler.run())

    async def assemble(self) -> str:
        """Until the program is served and mirrored; gives an operator's token. Raises SceneError, DemoError."""
        token, digest = make_token()
        for node in self.nodes.values():
            self.authority.issue(node.name).save(node.own_path("pki")[0])
            for name, text in (
                ("program.toml", self._definition),
                (REGISTERED, DEFINITION),
                ("node.toml", node_toml(node, self.nodes.values()) + self._more_settings(node.name)),
                ("tokens.toml", entry_text("chaos", "admin", digest)),
            ):
                node.own_path(name)[0].write_text(text)
        for keeper in self.keepers.values():
            await keeper.start()
        await self._meet(token)
        await self.observer.until_there()
        await self.operator.create(self.directory.node / "program.toml", NAMES)
        if missing := await self.observer.until_whole(START_S):
            raise SceneError(f"it does not become whole: {missing}; see {self.directory.logs}")
        return token

    def _more_settings(self, name: str) -> str:
        carrier = self.keepers[name].carrier
        return "" if carrier is None else f"\n{carrier.settings}"

    async def _meet(self, token: str) -> None:
        endpoints = {name: f"{node.address}:{ADMIN_PORT}" for name, node in self.nodes.items()}
        certificate = self.nodes[NAMES[0]].own_path("pki")[0] / AUTHORITY_CERTIFICATE
        for who, asked in (("", list(endpoints.values())), *((name, [one]) for name, one in endpoints.items())):
            self._operators[who] = Administrator(asked, token, certificate, self.directory.logs)
            await self._operators[who].arrive(self.machines.client)
        for name, endpoint in endpoints.items():
            who = f"registrar-{name}"
            self._operators[who] = Administrator([endpoint], token, certificate, self.directory.logs, PROGRAM)
            await self._operators[who].arrive(self.machines.client)
        each = {name: self._operators[name] for name in NAMES}
        self._observer = Observer(self.operator, each, self.directory.logs)

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
        await asyncio.to_thread(self._keep_logs)
        with suppress(SceneError):  # It was raised before, or something worse was.
            await self.registered()
        for operator in self._operators.values():
            await operator.close()
        for keeper in self.keepers.values():
            keeper.leave()
        kills = (asyncio.to_thread(node.kill) for node in self.nodes.values())
        await asyncio.gather(*kills, return_exceptions=True)
        await asyncio.to_thread(self.machines.close)
        for witness in (self._load, self._sniffer):
            await witness.close()
        for keeper in self.keepers.values():
            await keeper.close()

    def _keep_logs(self) -> None:
        """What agents and programs have said is on the nodes' disks, which are gone soon."""
        for name, keeper in self.keepers.items():
            with suppress(OSError, NoProcess):
                for log in keeper.disk.path.glob("programs/*/*.log"):
                    shutil.copy(log, self.directory.logs / f"{log.parent.name}-{log.stem}-{name}.log")

    # ------------------------------------------------------------ what is known of it

    @property
    def samples(self) -> list[Sample]:
        """See `Stage`."""
        return [] if self._sampler is None else self._sampler.samples

    async def registered(self) -> list[RegistryOperation]:
        """See `Stage`."""
        return [] if self._registrars is None else await self._registrars.finish()

    def harm(self, kind: str, node: str, chance: random.Random) -> Harm:
        """See `Stage`."""
        return self._faults[kind](self, node, chance)

    def pid(self, node: str, role: Role) -> int:
        """Raises NoProcess."""
        return pid_of(self.nodes[node], role, self._program)

    def pids(self, node: str, role: Role) -> list[int]:
        """All processes of a role."""
        return [pid for found, pid in processes(self.nodes[node], self._program) if found == role]

    async def census(self) -> list[Census]:
        """See `Stage`."""
        found: list[Census] = []
        for name, node in self.nodes.items():
            by_role: dict[Role, list[tuple[int, int]]] = {}
            for role, pid in processes(node, self._program):
                by_role.setdefault(role, []).append((len(open_descriptors(pid)), resident_kib(pid)))
            at_ns = time.monotonic_ns()
            for role, counts in by_role.items():
                descriptors, resident = (sum(one) for one in zip(*counts, strict=True))
                found.append(Census(at_ns, name, role, len(counts), descriptors, resident))
        return found
