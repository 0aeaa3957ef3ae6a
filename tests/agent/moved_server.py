"""A `tests.victims.tcp_server` on a node, and the move of its sockets to another one on another node."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.context.clocks import ProgramClocks
from agent.context.kind import Walk
from agent.context.look import Watch
from agent.context.network import Network
from agent.context.socket_options import SO_REUSEADDR, SOL, read_options
from agent.context.tcp import TcpKind
from agent.context.udp import UdpKind
from agent.kernel.pidfd import get_descriptor
from agent.memory.page_ranges import NO_RANGES
from agent.scout.scout import Question, Scout
from tests.agent.lan import Lan
from transport.checkpoint import Records

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """The server process on a node."""

    def __init__(self, lan: Lan, node: str) -> None:
        self._process = subprocess.Popen(
            ("ip", "netns", "exec", lan.name(node), sys.executable, "-m", "tests.victims.tcp_server"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)

    def command(self, **commands: Any) -> Any:
        """Send a command and give its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(commands).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def options(self, change: list[tuple[int, int, int]]) -> dict[int, dict[str, Any]]:
        """Set options of all its TCP sockets; then give all of their options, by number."""
        found: dict[int, dict[str, Any]] = {}
        for number, one in self._sockets():
            for level, option, value in change:
                one.setsockopt(level, option, value)
            values = read_options(one, one.family, one.type)
            found[number] = {"values": values, "reuse": one.getsockopt(SOL, SO_REUSEADDR)}
        return found

    def errors(self) -> dict[int, int]:
        """The error that waits on each of its sockets, which it will not see any more."""
        return {number: one.getsockopt(SOL, socket.SO_ERROR) for number, one in self._sockets()}

    def _sockets(self) -> Iterator[tuple[int, socket.socket]]:
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            if os.readlink(f"/proc/{self.pid}/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=get_descriptor(self.pidfd, int(name))) as one:
                    yield int(name), one

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it if it still lives, and give everything back."""
        if self._process.poll() is None:
            self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        os.close(self.pidfd)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SocketCapture:
    """Captures the sockets of a server that holds still; what it finds unchanged stays the same object."""

    def __init__(self, server: Server, scout: Scout | None = None) -> None:
        self._server = server
        self._scout = scout or Scout()
        self._scout.follow(server.pid)
        self._network = Network(scout)
        self._tcp, self._udp = TcpKind(self._network), UdpKind(self._network)
        self._watch = Watch(server.pid)
        self._clocks = ProgramClocks(server.pid)

    def capture(self, *, exact: bool = True) -> Records:
        """The records of all TCP and UDP sockets; `exact`: as for a last checkpoint."""
        self._scout.ask(Question(NO_RANGES, NO_RANGES, self._network.connections))
        walk = Walk(
            pid=self._server.pid,
            pidfd=self._server.pidfd,
            rule_for=lambda _: None,
            clocks=self._clocks,
            previous={},
            looks=self._watch.look(),
            keys={},
            reread=self._watch.reread,
            exact=exact,
        )
        tcp, udp = self._tcp, self._udp
        looks = [look for look in walk.looks.values() if tcp.owns(look, walk)]
        told = zip(looks, tcp.read(looks, walk)(), strict=True)
        records = {f"ofd/{tcp.name}:{look.number}": data for look, data in told}
        for look in walk.looks.values():
            if udp.owns(look, walk):
                records[f"ofd/{udp.name}:{look.number}"] = udp.capture(look, walk)
        return records

    def close(self) -> None:
        """Give back what is kept."""
        self._watch.close()
        self._network.close()

    def __enter__(self) -> SocketCapture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
