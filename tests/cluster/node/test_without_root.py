"""Nodes that are not root, in a user namespace of their own: structures mode, behind a proxy, is all the same."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import CHECKOUT, Directory, Machines
from kagemusha.exit_codes import ExitCode
from tests.agent.structures.built import built
from tests.agent.warm.two_agents import PORT, SERVICE, definition, lives
from tests.cluster.sessions import SOURCE
from tests.cluster.trio import DEADLINE_S, Daemon
from tests.cluster.warm_trio import WarmTrio, serving
from tests.command_lines import command_lines

pytestmark = pytest.mark.nodes

# To files it still is root, so that it may read the checkout wherever that is: cgroups are taken away from it.
WITHOUT_CGROUPS = "umount -R -l /sys/fs/cgroup 2> /dev/null"
AS_USER = ("--user", "--map-user=1000", "--map-group=1000")
UNPRIVILEGED = ("sh", "-c", f'{WITHOUT_CGROUPS}; exec unshare {" ".join(AS_USER)} "$@"', "sh")
PROXY_PORT = 7301
TABLE = '[[structures]]\nsymbol = "g_sessions"\nexclude = ["g_sessions.lock", "g_sessions.entries.lock"]\n'


class PlainDaemon(Daemon):
    """A daemon that has no capability at all, and is user 1000 to itself and to what it starts."""

    def words(self) -> list[str]:
        return [*UNPRIVILEGED, *super().words()]


class PlainTrio(WarmTrio):
    """Its clients try one node after the other: behind the proxy of whoever serves is the program."""

    def __init__(self, directory: Directory, machines: Machines, build: Path | None, more: str) -> None:
        """build: of a program that is copied to each node, instead of the service."""
        command = SERVICE if build is None else (str(directory.node / "program"), str(PORT))
        super().__init__(directory, machines, command, more)
        if build is not None:
            for node in machines.nodes.values():
                shutil.copy(build, node.own / "program")
        self.daemons = {name: PlainDaemon(node) for name, node in machines.nodes.items()}

    def _program_toml(self) -> str:
        text = definition(self._command, f"\n[failover]\nmax_takeovers = 1000\n{self._more_of_it}")
        before, _, after = text.partition("[redirect]")
        proxy = f'driver = "proxy"\nlisten = "0.0.0.0:{PROXY_PORT}"\nforward = "127.0.0.1:{PORT}"\n'
        return f"{before}[redirect]\n{proxy}{after[after.index('[failover]') :]}"

    def connect(self, timeout_s: float = 2.0) -> socket.socket:
        with open(self.machines.client.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
            for node in self.machines.nodes.values():
                with contextlib.suppress(OSError):
                    return socket.create_connection((node.address, PROXY_PORT), timeout=timeout_s)
        raise ConnectionRefusedError


@asynccontextmanager
async def plain_trio(build: Path | None = None, more: str = "") -> AsyncIterator[PlainTrio]:
    """A cluster whose program serves on a and waits on b and c. build, more: see `PlainTrio`, `WarmTrio`."""
    async with serving(lambda directory, machines: PlainTrio(directory, machines, build, more)) as cluster:
        yield cluster


async def primary_of(cluster: PlainTrio) -> str:
    """Who serves, when it is mirrored everywhere."""
    view = await cluster.served()
    return str(view["programs"]["warm"]["primary"])


def state_of(pid: int) -> str:
    """Of a process, as proc_pid_stat(5) has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_program_goes_on_after_a_kill_a_daemon_that_hangs_and_the_death_of_an_agent() -> None:
    async with plain_trio() as cluster:
        first = await cluster.pid("a")
        assert os.stat(f"/proc/{first}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
        assert await cluster.ask("SET", "1", "one") == "OK 2"
        os.kill(first, signal.SIGKILL)
        assert await cluster.ask("GET", "1") == "one"
        second = await primary_of(cluster)
        assert second != "a"
        assert await cluster.ask("SET", "2", "two") == "OK 2"

        # Its daemon hangs: the watchdog stops every process of the program, and is believed.
        pid = await cluster.pid(second)
        hanging = cluster.daemons.pop(second)
        assert hanging.process is not None
        os.kill(hanging.process.pid, signal.SIGSTOP)
        view = await cluster.until(lambda view: view["programs"]["warm"]["primary"] != second, "another one serves")
        third = view["programs"]["warm"]["primary"]
        assert state_of(pid) == "T"
        log = (cluster.machines.nodes[second].own / "run" / "watchdog.log").read_text()
        assert "frozen" in log
        assert "not frozen" not in log
        os.kill(hanging.process.pid, signal.SIGCONT)
        cluster.daemons[second] = hanging
        assert await cluster.ask("GET", "2") == "two"
        assert await primary_of(cluster) == third
        assert not lives(pid)
        assert await cluster.ask("SET", "3", "three") == "OK 2"

        # Its agent dies: the next one finds it.
        pid = await cluster.pid(third)
        [agent] = [one for one, words in command_lines(cluster.machines.nodes[third]) if b"agent" in words]
        os.kill(agent, signal.SIGKILL)
        await cluster.ended(agent)
        assert await primary_of(cluster) == third
        assert await cluster.pid(third) == pid
        assert await cluster.ask("GET", "3") == "three"


async def test_an_unmodified_program_goes_on_too() -> None:
    async with plain_trio(built(SOURCE, "-g", "-O2"), TABLE) as cluster:
        assert await cluster.ask("OPEN", "ann") == "OK 0"
        assert await cluster.ask("PUT", "0", "vermilion") == "OK 1"
        os.kill(await cluster.pid("a"), signal.SIGKILL)
        assert await cluster.ask("GET", "0") == "OK ann 1 vermilion"
        assert await primary_of(cluster) != "a"


def test_what_takes_root_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "program.toml"
    for program, mode, why in (
        ("", "process", "mirroring a process takes root"),
        ('user = "root"', "structures", "a node that runs as user 1000 can start nothing as root"),
    ):
        file.write_text(
            f'[program]\nid = "p"\ncommand = ["/usr/bin/sleep", "9"]\n{program}\n[mirror]\nmode = "{mode}"\n'
        )
        command = ("unshare", *AS_USER, sys.executable, "-m", "kagemusha", "preflight", str(file))
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == ExitCode.PREFLIGHT
        assert why in done.stdout + done.stderr
