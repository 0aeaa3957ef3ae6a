"""Supervisors of several nodes in one process, with real agents and a real program, and a leader that grants leases."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.agents.instance_view import state_of
from cluster.agents.supervisor import Supervisor
from cluster.config import Cluster, NodeConfig
from cluster.fencing.guard import Guard
from cluster.fencing.lease_file import LeaseFile
from cluster.node.messages import InstanceState
from kagemusha.program_reader import read_program
from tests.cluster.cluster_of import configs

ROOT = Path(__file__).resolve().parents[3]
AGENT = (sys.executable, "-m", "kagemusha", "agent")
WATCHDOG = (sys.executable, "-m", "kagemusha", "watchdog")
DEADLINE_S = 60.0
LEASE_S = 0.4
PROGRAM = "counter"
COUNTS = """
import sys, time
n = 0
while True:
    n += 1
    sys.stdout.write(f"{n}\\n")
    time.sleep(0.005)
"""


class Home:
    """One node: its daemon's supervisor, which may be started again."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.grants = True
        self.agreed_incarnation = 0
        self.changed = asyncio.Event()
        self.guard: Guard
        self.supervisor: Supervisor
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """What a daemon does at its start."""
        run = Path(self.config.node.run)
        self.guard = Guard(run / "leases", WATCHDOG, run / "watchdog.log")
        await self.guard.start()
        self.supervisor = Supervisor(
            self.config,
            AGENT,
            self.guard,
            read_program,
            self.changed.set,
            lambda program, token: self._ask(token),
            agreed_incarnation=lambda program: self.agreed_incarnation,
        )
        await self.supervisor.start()
        self._renewing = asyncio.create_task(self._renew())

    async def stop(self) -> None:
        """The daemon ends; all else goes on."""
        if self._renewing is not None:
            self._renewing.cancel()
        await self.supervisor.close()
        self.guard.close()

    def _ask(self, token: int) -> None:
        if self.grants:
            sent_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            asyncio.get_running_loop().call_soon(self.supervisor.granted, PROGRAM, token, sent_s, LEASE_S)

    async def _renew(self) -> None:
        while True:
            for _, token in self.supervisor.leases():
                self._ask(token)
            await asyncio.sleep(0.05)

    @property
    def state(self) -> InstanceState:
        """Of the program's instance here."""
        return state_of(self.supervisor.instances[PROGRAM])

    @property
    def pid(self) -> int:
        """The program's, as the record has it."""
        return self.supervisor.instances[PROGRAM].record.pid

    @property
    def agent_pid(self) -> int:
        """The agent's."""
        agent = self.supervisor.instances[PROGRAM].agent
        assert agent is not None
        return agent.hello.pid

    async def until(self, is_so: Callable[[InstanceState], bool]) -> InstanceState:
        """Wait for the instance to be so."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not is_so(self.state):
                    self.changed.clear()
                    try:
                        await asyncio.wait_for(self.changed.wait(), 0.05)
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise AssertionError(f"{self.config.node.id}: {self.state}") from None
        return self.state


def make_program(directory: Path) -> str:
    """A program's file; gives its path."""
    script = directory / "counts.py"
    script.write_text(COUNTS)
    path = directory / "program.toml"
    path.write_text(
        f'[program]\nid = "{PROGRAM}"\ncommand = ["/usr/bin/python3", "-u", "{script}"]\n'
        "[mirror]\ninterval_ms = 20\nmemory_mib_max = 128\n[failover]\ngrace_ms = 1000\n"
        # Both nodes are in one file system here, where the program's output has another path on each.
        f'[[files]]\npath = "{directory}/a/data/programs/{PROGRAM}/{PROGRAM}.log"\nrule = "local"\n'
    )
    return str(path)


def counted(path: Path) -> list[int]:
    """What the program has written."""
    return [int(line) for line in path.read_text().splitlines()]


@asynccontextmanager
async def households(directory: Path) -> AsyncIterator[tuple[str, Home, Home]]:
    """The program's file and two nodes; in the end nothing of them is left."""
    os.environ["PYTHONPATH"] = str(ROOT)
    all_configs = configs(directory, ("a", "b"))
    # Two runs of the tests may go on at once.
    first_port = 12_000 + os.getpid() % 500 * 40
    ports = iter([(first_port, first_port + 19), (first_port + 20, first_port + 39)])
    homes = []
    for config in all_configs.values():
        agents = config.agents.model_copy(update={"stream_ports": next(ports)})
        cluster = Cluster(id=f"kgm-{os.getpid()}")
        homes.append(Home(config.model_copy(update={"agents": agents, "cluster": cluster})))
    try:
        for home in homes:
            await home.start()
        yield make_program(directory), homes[0], homes[1]
    finally:
        for home in homes:
            for instance in tuple(home.supervisor.instances.values()):
                await instance.forget()
            await home.stop()
            pid = LeaseFile(Path(home.config.node.run) / "leases").watchdog_pid
            os.kill(pid, 15)
            # A child that has ended is news for every later test of this process that waits for any.
            os.waitpid(pid, 0)
