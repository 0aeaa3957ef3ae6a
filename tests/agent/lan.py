"""A small network of network namespaces for tests: two nodes and a client on one bridge, IPv4 and IPv6.

Names are `kgm-<pid>-...`: see `tests.leftovers`.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path

from agent.kernel.namespaces import in_network_namespace
from agent.kernel.rtnetlink import Link, RouteSocket

NAMES = ("first", "second", "client")
ADDRESS4, ADDRESS6 = ip_interface("10.91.0.100/32"), ip_interface("fd91::100/128")
_NETNS = Path("/run/netns")


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, timeout=20)


def _batch(namespace: str, *lines: str) -> None:
    subprocess.run(
        ("ip", "-n", namespace, "-batch", "-"),
        input="\n".join(lines),
        text=True,
        check=True,
        capture_output=True,
        timeout=20,
    )


class Lan:
    """Namespaces `first`, `second` and `client`, each with an interface eth0 on a common bridge."""

    def __init__(self) -> None:
        self._prefix = f"kgm-{os.getpid()}"
        self._descriptors: dict[str, int] = {}
        self._switch = f"{self._prefix}-switch"

    def __enter__(self) -> Lan:
        for name in ("switch", *NAMES):
            _ip("netns", "add", self.name(name))
        _batch(self._switch, "link add br0 type bridge forward_delay 0", "link set br0 up")
        for index, name in enumerate(NAMES, 1):
            namespace = self.name(name)
            _batch(self._switch, f"link add {name} type veth peer name eth0 netns {namespace}")
            _batch(self._switch, f"link set {name} master br0 up")
            _batch(
                namespace,
                "link set lo up",
                f"address add 10.91.0.{index}/24 dev eth0",
                f"address add fd91::{index}/64 dev eth0 nodad",
                "link set eth0 up",
            )
            self._descriptors[name] = os.open(_NETNS / namespace, os.O_RDONLY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        for name in (*NAMES, "switch"):
            _ip("netns", "del", self.name(name))

    def name(self, node: str) -> str:
        """The name of a node's namespace, as ip-netns(8) knows it."""
        return f"{self._prefix}-{node}"

    @contextmanager
    def inside(self, node: str) -> Iterator[None]:
        """This thread works inside a node's network within the block."""
        with in_network_namespace(self._descriptors[node]):
            yield

    def set_cable(self, node: str, *, plugged: bool) -> None:
        """Pull a node's cable at the switch, or plug it in."""
        with in_network_namespace(self._switch_descriptor()):
            routes = RouteSocket()
            routes.set_link(routes.link(node), up=plugged)
            routes.close()

    def link(self, node: str) -> Link:
        """A node's interface."""
        with self.inside(node):
            routes = RouteSocket()
            try:
                return routes.link("eth0")
            finally:
                routes.close()

    def connect(self, address: str, port: int) -> socket.socket:
        """A connection from the client."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside("client"):
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.settimeout(10)
            connection.connect((address, port))
        return connection

    def _switch_descriptor(self) -> int:
        if "switch" not in self._descriptors:
            self._descriptors["switch"] = os.open(_NETNS / self._switch, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptors["switch"]
