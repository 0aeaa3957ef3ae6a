"""One machine more on the bridge, which belongs to nobody: it has a network of its own and nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import CHECKOUT, INTERFACE, Machine, Node

_HOST_NUMBER = 66
_ETH_P_ARP = 0x0806


class Stranger(Machine):
    """There is one at a time."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id, "stranger", _HOST_NUMBER)

    def pose_as(self, node: Node, own: Path) -> Path:
        """Have copies of a node's files in the directory `own`, with this machine's address; gives its node.toml."""
        own.mkdir(exist_ok=True)
        shutil.copytree(node.own_path("pki")[0], own / "pki", dirs_exist_ok=True)
        text = node.own_path("node.toml")[0].read_text().replace(str(node.directory.node), str(own))
        (own / "node.toml").write_text(text.replace(f'"{node.address}:', f'"{self.address}:'))
        if (tokens := node.own_path("tokens.toml")[0]).exists():
            shutil.copy(tokens, own)
        return own / "node.toml"

    def run_node(self, config: Path, log: Path) -> subprocess.Popen[bytes]:
        """A node's daemon here; it ends with `close`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.command(sys.executable, "-m", "kagemusha", "node", "--config", str(config)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                start_new_session=True,
            )

    def take(self, address: str) -> None:
        """Have an address of somebody else's, and tell everybody (RFC 826; an announcement as in RFC 5227, 3)."""
        self.network.ip(f"addr add {address}/32 dev {INTERFACE}")
        with open(self.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
                link.bind((INTERFACE, 0))
                own, ip = link.getsockname()[4], socket.inet_aton(address)
                arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + own + ip + own + ip
                link.send(b"\xff" * 6 + own + struct.pack("!H", _ETH_P_ARP) + arp)


def neighbour(machine: Machine, address: str) -> str:
    """The hardware address that a machine believes an IPv4 address to have; "" for none (proc(5), /proc/net/arp)."""
    with open(machine.network.path, "rb") as namespace, in_network_namespace(namespace.fileno()):
        lines = Path("/proc/thread-self/net/arp").read_text().splitlines()[1:]
    return next((line.split()[3] for line in lines if line.split()[0] == address), "")
