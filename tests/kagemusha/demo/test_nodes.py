"""Nodes share nothing but the network, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kagemusha.demo.errors import DemoError
from kagemusha.demo.namespace import NetworkNamespace, named_namespaces
from kagemusha.demo.nodes import CLOCK_SHIFTS_S, PREFIX, Directory, Machine, Machines, Node, clear_crashed_runs
from tests.chaos.cgroup import Cgroup

_REACH = """
import socket, sys
with socket.socket() as sock:
    sock.settimeout(float(sys.argv[2]))
    sys.exit(sock.connect_ex((sys.argv[1], 9)) != 111)
"""


def said(machine: Machine, *argv: str) -> str:
    """What a command says on a machine."""
    return subprocess.run(machine.command(*argv), capture_output=True, text=True, check=True).stdout.strip()


def reaches(machine: Machine, address: str, within_s: float) -> bool:
    """Whether a closed port of the address answers with a reset."""
    argv = machine.command("/usr/bin/env", "python3", "-c", _REACH, address, str(within_s))
    return subprocess.run(argv, check=False).returncode == 0


def test_paths_are_the_same_and_contents_are_not(machines: Machines) -> None:
    a, b = machines.nodes["a"], machines.nodes["b"]
    for place in (machines.directory.data, machines.directory.node, Path("/tmp"), Path("/dev/shm")):
        said(a, "sh", "-ec", f"echo secret of a > {place}/only-a")
        assert "only-a" not in said(b, "ls", str(place))
    assert said(b, "ls", str(machines.directory.nodes)) == ""


def test_the_own_directory_is_seen_from_outside(machines: Machines) -> None:
    outside, inside = machines.nodes["a"].own_path("control")
    said(machines.nodes["a"], "touch", str(inside))
    assert outside.exists()


def test_every_node_has_its_own_time(machines: Machines) -> None:
    for name, node in machines.nodes.items():
        uptime_s = float(said(node, "cut", "-d ", "-f1", "/proc/uptime"))
        assert abs(uptime_s - time.clock_gettime(time.CLOCK_BOOTTIME) - CLOCK_SHIFTS_S[name]) < 60


def test_a_cut_link_is_silent_and_heals(machines: Machines) -> None:
    node = machines.nodes["b"]
    assert reaches(machines.client, node.address, 5)
    node.cut()
    assert not reaches(machines.client, node.address, 0.2)
    assert reaches(machines.client, machines.nodes["a"].address, 5)
    node.heal()
    assert reaches(machines.client, node.address, 5)


def test_killing_a_node_kills_its_processes_and_no_other(machines: Machines) -> None:
    a, b = machines.nodes["a"], machines.nodes["b"]
    victims = [subprocess.Popen(a.command("sleep", "1000")) for _ in range(3)]
    other = subprocess.Popen(b.command("sleep", "1000"))
    for process in (*victims, other):
        _arrived(process, b if process is other else a)
    assert a.kill() >= len(victims)
    assert [process.wait(5) for process in victims] == [-9] * len(victims)
    assert other.poll() is None
    machines.close()
    assert other.wait(5) == -9


def test_killing_a_node_kills_what_is_frozen(machines: Machines) -> None:
    node = machines.nodes["a"]
    victim = subprocess.Popen(node.command("sleep", "1000"))
    _arrived(victim, node)
    cgroup = Cgroup("freezer", "frozen-victim")
    cgroup.take([victim.pid], {"freezer.state": "FROZEN"})
    try:
        node.kill()
        assert victim.wait(5) == -9
    finally:
        cgroup.write("freezer.state", "THAWED")
        cgroup.release()


def test_a_node_that_boots_is_reached_at_once(machines: Machines) -> None:
    node = machines.nodes["b"]
    assert reaches(machines.client, node.address, 5)
    node.cut()
    node.kill()
    node.boot()
    assert reaches(machines.client, node.address, 5)


def _arrived(process: subprocess.Popen[bytes], machine: Machine) -> None:
    while process.pid not in machine.network.processes():
        assert process.poll() is None


def test_nothing_is_left_behind(machines: Machines) -> None:
    names = [space.name for space in named_namespaces(PREFIX + machines.directory.run_id)]
    assert len(names) == 4
    machines.close()
    assert not any(space.path.exists() for space in map(NetworkNamespace, names))


def test_what_a_crashed_run_left_is_cleared_and_what_lives_is_not(machines: Machines, runs: Path) -> None:
    crashed = Directory("crashed", runs)
    node = Node(crashed, "a", 7)
    process = subprocess.Popen(node.command("sleep", "1000"))
    _arrived(process, node)
    assert clear_crashed_runs(runs) == []
    assert crashed._lock is not None
    crashed._lock.close()
    assert clear_crashed_runs(runs) == ["crashed"]
    assert process.wait(5) == -9
    assert not node.network.path.exists()
    assert not crashed.path.exists()
    assert machines.nodes["a"].network.processes()
    node.close()


def test_namespaces_of_a_run_that_gave_its_lock_back_and_was_killed_then_are_cleared(runs: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = NetworkNamespace.create(f"{PREFIX}{gone.pid}-beef-a")
    lives = NetworkNamespace.create(f"{PREFIX}{os.getpid()}-beef-a")
    try:
        process = subprocess.Popen(["ip", "netns", "exec", left.name, "sleep", "1000"])
        while not left.processes():
            assert process.poll() is None
        assert clear_crashed_runs(runs) == []
        assert process.wait(5) == -9
        assert not left.path.exists()
        assert lives.path.exists()
    finally:
        lives.delete()


def test_runs_that_clear_at_the_same_time_do_not_trip_over_each_other(runs: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = [NetworkNamespace.create(f"{PREFIX}{gone.pid}-beef-{number}") for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        cleared = [threads.submit(clear_crashed_runs, runs) for _ in range(4)]
    assert [one.result() for one in cleared] == [[]] * 4
    assert not [one.name for one in left if one.path.exists()]


def test_two_runs_do_not_share_a_directory(directory: Directory, runs: Path) -> None:
    with pytest.raises(DemoError, match="in use by another run"):
        Directory(directory.run_id, runs)


def test_a_node_without_its_rights_says_so(directory: Directory) -> None:
    directory.data.rmdir()
    try:
        with pytest.raises(DemoError, match=r"node a can't be furnished: .*mount"):
            Node(directory, "a", 8)
        assert not named_namespaces(PREFIX + directory.run_id)
    finally:
        directory.data.mkdir()
