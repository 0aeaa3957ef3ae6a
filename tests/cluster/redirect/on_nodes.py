"""A real keepalived on each node of a demo's machines, and what the nodes' files say of it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kagemusha.demo.nodes import Node
from tests.cluster.redirect.keepalived import DEADLINE_S, include_text, settings_text, start_command

ROUTER_ID: Final = 51
DRIVER: Final = f'driver = "keepalived"\nrouter_id = {ROUTER_ID}'
"""What program.toml says of it."""


class KeepalivedOnNodes:
    """One for each node; all of it lies in the node's own directory, so what it is told survives a boot."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def furnish(self, name: str, config: str = "") -> None:
        """Write its configuration. config: what stands in it; "": what the node's daemon adds, and nothing else."""
        node = self._nodes[name]
        (node.own / "keepalived.conf").write_text(config or include_text(node.directory.node))

    def settings(self, name: str) -> str:
        """The table of a node.toml that leads the daemon there."""
        return settings_text(self._nodes[name].directory.node)

    def start(self, name: str) -> None:
        """Start it."""
        node = self._nodes[name]
        if name in self.processes:
            self.processes[name].wait(DEADLINE_S)
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                words_to_start(node), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def log(self, name: str) -> Path:
        """What it says on a node."""
        return log_of(self._nodes[name])

    def states(self, name: str, instance: str) -> list[str]:
        """The states that a VRRP instance has gone through on a node, in capitals."""
        lines = [line.upper() for line in self.log(name).read_text().splitlines() if f"({instance}) " in line]
        return [line.split("ENTERING ")[1].split()[0] for line in lines if "ENTERING " in line and "STATE" in line]

    def close(self) -> None:
        """Wait for their ends, which come with their nodes'."""
        for process in self.processes.values():
            process.wait(DEADLINE_S)


def words_to_start(node: Node) -> list[str]:
    """The command that starts one on a node; what one that was killed has left is taken away, as by an init system."""
    for pid_file in ("keepalived.pid", "vrrp.pid"):
        (node.own / pid_file).unlink(missing_ok=True)
    return node.command(*start_command(node.directory.node))


def log_of(node: Node) -> Path:
    """What it says on this node."""
    return node.directory.logs / f"keepalived-{node.name}.log"


def by_keepalived(program: str) -> str:
    """The text of a program.toml whose address keepalived carries, made of one without."""
    before = 'driver = "address"'
    if before not in program:
        raise ValueError(f"{before} is not in {program}")
    return program.replace(before, DRIVER)
