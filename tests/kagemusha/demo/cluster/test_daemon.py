"""The daemons of the demo's nodes: their settings, a node that boots again, and what they say when they end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config import NODE_FILE
from kagemusha.demo.cluster import daemon
from kagemusha.demo.cluster.daemon import Daemon, cluster_id, node_toml
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Directory, Machines
from tests.kagemusha.demo.test_nodes import reaches

NAMES = ("a", "b", "c")


@pytest.fixture
def machines(directory: Directory) -> Iterator[Machines]:
    """Three nodes and a client on a bridge."""
    machines = Machines(directory, NAMES)
    yield machines
    machines.close()


def test_a_nodes_settings_are_those_of_a_real_node(machines: Machines, tmp_path: Path) -> None:
    for name, node in machines.nodes.items():
        path = tmp_path / f"{name}.toml"
        path.write_text(node_toml(node, machines.nodes.values()))
        config = NODE_FILE.load(path)
        assert (config.node.id, config.cluster.id) == (name, cluster_id(machines.directory))
        assert [one.id for one in config.nodes] == list(NAMES)
        assert config.own.admin == f"{node.address}:7402"


async def test_a_daemon_that_ends_says_why(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "COMMAND", ("-c", "raise SystemExit('this disk is full')"))
    one = Daemon(machines.nodes["a"])
    await one.start()
    await one.ended()
    with pytest.raises(DemoError, match="the daemon of node a ended with status 1: this disk is full"):
        one.check()
    await one.close()


async def test_a_node_boots_with_its_disk_and_nothing_else(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "COMMAND", ("-c", "import time; time.sleep(1000)"))
    node, peer = machines.nodes["a"], machines.nodes["b"]
    one = Daemon(node)
    await one.start()
    (node.own / "run").mkdir()
    (node.own / "kept").touch()
    node.network.ip("addr add 10.77.0.100/32 dev eth0")
    node.cut()
    assert node.kill() > 0
    await one.ended()
    one.check()  # its node was killed: that is no fault of the daemon
    await one.boot()
    one.check()
    assert (node.own / "kept").exists()
    assert not (node.own / "run").exists()
    shown = subprocess.run(node.command("ip", "addr"), capture_output=True, text=True, check=True).stdout
    assert node.address in shown
    assert "10.77.0.100" not in shown
    assert reaches(peer, node.address, 5)
    await one.close()
