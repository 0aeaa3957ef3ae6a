"""A deployed cluster as a stage: its machines by SSH, its API, and clients on this machine."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kagemusha.demo.errors import DemoError
from tests.chaos.administrator import Administrator
from tests.chaos.deployed.inventory import Inventory, Served
from tests.chaos.deployed.remote import Remote, RemoteError
from tests.chaos.evidence import Census, RegistryOperation
from tests.chaos.observed import Observed
from tests.chaos.observer import Observer, SceneError
from tests.chaos.stage import Harm
from tests.chaos.witness import Witness
from transport.pki import AUTHORITY_CERTIFICATE

DATA_DIRECTORY: Final = "/var/lib/kagemusha"
RUN_DIRECTORY: Final = "/run/kagemusha"
_PROBED: Final = frozenset({"nft", "systemd"})
Making = Callable[["Site", str, random.Random], Harm]


@dataclass(frozen=True, slots=True)
class Service:
    """What clients use of a program. port: where it speaks redis."""

    served: Served
    port: int


class Site(Observed):
    """A `Stage` of machines. faults: what may harm it, by kind. Until `open` everything only looks."""

    data_directory = DATA_DIRECTORY
    run_directory = RUN_DIRECTORY

    def __init__(
        self, inventory: Inventory, service: Service, directory: Path, faults: Mapping[str, Making] | None = None
    ) -> None:
        super().__init__()
        self.program = service.served.program
        self.remotes = {name: Remote(machine) for name, machine in inventory.machines.items()}
        self._inventory = inventory
        self._service = service
        self._faults = faults or {}
        self._run = f"kgm_chaos_{random.SystemRandom().randrange(1 << 32):08x}"
        self._made = 0
        self._load = Witness("load", directory)
        self._logs = directory / "logs"
        self._logs.mkdir(exist_ok=True)

    def new_id(self) -> str:
        """Of a fault: what it leaves on a node until it is undone, bears it."""
        self._made += 1
        return f"{self._run}_{self._made}"

    # ------------------------------------------------------------ its beginning and its end

    async def meet(self) -> None:
        """Be able to ask the cluster, and see that it is the one of the inventory. Raises SceneError, DemoError."""
        token = _token(self._inventory.authority)
        certificate = self._inventory.authority / AUTHORITY_CERTIFICATE
        endpoints = {name: machine.api for name, machine in self._inventory.machines.items()}
        for who, asked in (("", list(endpoints.values())), *((name, [one]) for name, one in endpoints.items())):
            self._operators[who] = Administrator(asked, token, certificate, self._logs, self.program)
            await self._operators[who].stay()
        each = {name: self._operators[name] for name in endpoints}
        self._observer = Observer(self.operator, each, self._logs)
        found = (await self.operator.health())["cluster"]
        if found != self._inventory.cluster:
            raise SceneError(f"the cluster calls itself {found}, the inventory {self._inventory.cluster}")

    async def probe(self) -> frozenset[str]:
        """What every node has that some faults need. Raises RemoteError."""
        asked = (remote.do("probe", self.data_directory) for remote in self.remotes.values())
        has = []
        for lines in await asyncio.gather(*asked):
            found = set(lines)
            own = () if "container" in found else ("own-kernel", "own-disk")
            has.append(frozenset({*(found & _PROBED), *own, *(("own-disk",) if "disk" in found else ())}))
        return frozenset.intersection(*has)

    async def open(self) -> None:
        """See `Stage`."""
        if not self._operators:
            await self.meet()
        if missing := await self.until_whole():
            raise SceneError(f"it is not whole before anything is done to it: {missing}")
        address = self._service.served.address
        words = (address, str(self._service.port), f"{self._run}-")
        await self._load.start([], "tests.chaos.load", *words)
        self._reporter = asyncio.ensure_future(self.observer.report())

    async def witnesses(self) -> Sequence[Path]:
        """See `Stage`."""
        load = await self._load.finish()
        if self._reporter is not None:
            self._reporter.cancel()
        return [load]

    async def close(self) -> None:
        """See `Stage`."""
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.gather(self._reporter, return_exceptions=True)
        undone = (remote.do("undo-all", self._run) for remote in self.remotes.values() if self._made)
        # Whoever can't be reached undoes it by itself.
        await asyncio.gather(*undone, return_exceptions=True)
        for operator in self._operators.values():
            await operator.close()
        await self._load.close()

    # ------------------------------------------------------------ what is known of it

    async def registered(self) -> list[RegistryOperation]:
        """See `Stage`. Nobody creates and deletes programs in somebody's cluster."""
        return []

    def harm(self, kind: str, node: str, chance: random.Random) -> Harm:
        """See `Stage`."""
        return self._faults[kind](self, node, chance)

    async def pid_of_program(self, node: str) -> int:
        """Of its process on a node. Raises DemoError, TimeoutError."""
        return int((await self.observer.ask(self.operator.status(node)))["pid"])

    async def census(self) -> list[Census]:
        """See `Stage`."""
        found = await asyncio.gather(*(self._census_of(name) for name in self.remotes))
        return [one for of_node in found for one in of_node]

    async def _census_of(self, name: str) -> list[Census]:
        try:
            lines = await self.remotes[name].do("census", str(await self.pid_of_program(name)))
        except (RemoteError, DemoError, TimeoutError):
            return []
        at_ns = time.monotonic_ns()
        # Where keepalived carries nothing it is none of the product's.
        carried = self._service.served.driver == "keepalived"
        counts = (line.split() for line in lines if carried or not line.startswith("keepalived "))
        return [Census(at_ns, name, role, *map(int, numbers)) for role, *numbers in counts]


def _token(authority: Path) -> str:
    try:
        return (authority / "token").read_text().strip()
    except OSError as error:
        raise SceneError(
            f"{authority}/token: {error.strerror}: the operator's token is needed, as Ansible keeps it"
        ) from None
