"""A real keepalived on a node of the small network, and a client that sees every millisecond whether it is answered."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from ipaddress import ip_interface
from itertools import pairwise
from pathlib import Path
from typing import Final

from cluster.config import KeepalivedSettings
from cluster.redirect.keepalived_host import KeepalivedHost
from tests.agent.lan import Lan

DEADLINE_S: Final = 30.0
PORT: Final = 7301
COMMAND: Final = "/usr/sbin/keepalived"
ECHO: Final = """
import socket, sys
echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
echo.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
echo.bind(("::", int(sys.argv[1])))
sys.stdout.write("listens\\n")
sys.stdout.flush()
while True:
    data, client = echo.recvfrom(100)
    echo.sendto(sys.argv[2].encode() + b" " + data, client)
"""


def start_command(directory: Path) -> list[str]:
    """How keepalived is started on a node whose own files, and what `settings_text` names, are in this directory."""
    words = ["stdbuf", "-oL", COMMAND, "-n", "-l", "-D", "-P", "-f", f"{directory}/keepalived.conf"]
    return [*words, "-p", f"{directory}/keepalived.pid", "-r", f"{directory}/vrrp.pid"]


def settings_text(directory: Path) -> str:
    """What node.toml says of it."""
    return f'[keepalived]\nconfig = "{directory}/keepalived.conf"\npid_file = "{directory}/keepalived.pid"\n'


def include_text(directory: Path) -> str:
    """What its own configuration must say, where the daemon's `run` is in this directory."""
    return f"include {directory}/run/keepalived/*.conf\n"


async def until(is_so: Callable[[], bool], what: str = "") -> None:
    """Wait for what other processes do."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(what or "it does not happen") from None


class RealKeepalived:
    """keepalived on one node, with a configuration that includes one directory."""

    def __init__(self, lan: Lan, node: str, directory: Path) -> None:
        self.lan = lan
        self.node = node
        self.directory = directory / node
        self.run = self.directory / "run"
        self.run.mkdir(parents=True)
        self.settings = KeepalivedSettings(
            config=str(self.directory / "keepalived.conf"),
            pid_file=str(self.directory / "pid"),
            command=COMMAND,
        )
        self.config = Path(self.settings.config)
        self.config.write_text(f"global_defs {{\n    router_id {node}\n}}\n{self.include}\n")
        numbers = {"first": ("10.91.0.1", "10.91.0.2"), "second": ("10.91.0.2", "10.91.0.1")}
        own, peer = numbers[node]
        self.host = KeepalivedHost(self.settings, str(self.run), own, [peer])
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def include(self) -> str:
        """The line that its configuration must have."""
        return f"include {self.run}/keepalived/*.conf"

    @property
    def log(self) -> str:
        """What it has said."""
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def start(self) -> None:
        """Start it; it may not have read its configuration yet."""
        words = [
            "stdbuf",
            "-oL",
            COMMAND,
            "-n",
            "-l",
            "-D",
            "-P",
            "-f",
            self.settings.config,
            "-p",
            self.settings.pid_file,
        ]
        words += ["-r", str(self.directory / "vrrp.pid")]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.lan.name(self.node)}", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """It and its child."""
        assert self.process is not None
        pid = self.process.pid
        try:
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        except FileNotFoundError:
            return []

    def send(self, number: int) -> None:
        """A signal to all of it."""
        for pid in self.processes():
            os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(DEADLINE_S)

    async def until_it_says(self, text: str, after: int = 0) -> None:
        """Wait for a line in its log."""
        await until(lambda: text in self.log[after:], f"{text!r} is not in {self.log[after:]}")

    def close(self) -> None:
        """End it."""
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
            self.process.wait(DEADLINE_S)


class Echo:
    """Answers on a node, at whatever address it is asked, with the node's name."""

    def __init__(self, lan: Lan, node: str) -> None:
        words = ["nsenter", f"--net=/run/netns/{lan.name(node)}", sys.executable, "-c", ECHO, str(PORT), node]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Client:
    """Asks every millisecond. answers: when, and which node."""

    def __init__(self, lan: Lan, address: str) -> None:
        ip = ip_interface(address).ip
        with lan.inside("client"):
            self._socket = socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.settimeout(0.001)
        self._target = (str(ip), PORT)
        self.answers: list[tuple[float, str]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self._socket.sendto(b"?", self._target)
            except OSError:
                time.sleep(0.001)
                continue
            try:
                answer = self._socket.recv(100).split()[0].decode()
            except (TimeoutError, OSError):
                continue
            self.answers.append((time.monotonic(), answer))
            time.sleep(0.001)

    async def until_answered_by(self, node: str, times: int = 20) -> None:
        """Wait until this node has answered, so many times in a row."""
        before = len(self.answers)

        def is_so() -> bool:
            fresh = [who for _, who in self.answers[before:]]
            return len(fresh) >= times and set(fresh[-times:]) == {node}

        await until(is_so, f"{node} does not answer: {self.answers[-3:]}")

    def gap_ms(self) -> float:
        """The longest time without an answer so far."""
        times = [at for at, _ in self.answers]
        return max(((after - before) * 1000 for before, after in pairwise(times)), default=0.0)

    def forget(self) -> None:
        """Measure anew."""
        del self.answers[:-1]

    def close(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join()
        self._socket.close()
