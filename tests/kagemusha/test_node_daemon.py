"""Real daemons that are alone, started twice, strangers, doubles, or out of disk: one clear line, nothing changed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kagemusha.exit_codes import ExitCode
from tests.kagemusha.loopback import Daemon, loopback, until_one_says
from transport.pki import Authority


def test_one_node_alone_leads_and_leads_again_after_a_crash(tmp_path: Path) -> None:
    with loopback(tmp_path, "a") as cluster:
        a = cluster.furnish("a")
        a.start()
        a.until_it_says("this node leads")
        a.end(signal.SIGKILL)
        a.start()
        a.until_it_says("this node leads")
        assert a.end() == ExitCode.OK


def test_a_daemon_that_is_started_twice(tmp_path: Path) -> None:
    with loopback(tmp_path, "a") as cluster:
        a = cluster.furnish("a")
        a.start()
        a.until_it_says("this node leads")
        second = Daemon(a.directory)
        second.start()
        assert second.wait() == ExitCode.CONFIG
        what, hint = second.said.splitlines()
        assert what.startswith(f"{a.directory}/data/raft: is in use by the daemon with process id ")
        assert hint == "hint: one daemon has one data directory; stop the other one first"
        assert a.end() == ExitCode.OK
        assert "level=error" not in a.said


def test_without_a_quorum_it_is_said_how_many_are_missing(tmp_path: Path) -> None:
    with loopback(tmp_path, "a", "b", "c") as cluster:
        a, b = cluster.furnish("a"), cluster.furnish("b")
        a.start()
        line = a.until_it_says("this node waits for agreement")
        assert "no quorum: 1 of 3 nodes in reach, 1 more needed; not in reach: b, c" in line
        b.start()
        _until_one_leads(a, b)


def test_a_certificate_of_another_cluster(tmp_path: Path) -> None:
    with loopback(tmp_path, "a", "b", "c") as cluster:
        a, b = cluster.furnish("a"), cluster.furnish("b")
        stranger = cluster.furnish("c", authority=Authority.create("another"))
        a.start()
        b.start()
        stranger.start()
        for daemon, peer in ((a, "c"), (b, "c"), (stranger, "a"), (stranger, "b")):
            line = daemon.until_it_says(f"node={peer} reason=")
            line = daemon.until_it_says("both nodes need certificates of the same cluster's authority")
            assert "its certificate is not accepted" in line
        assert "no quorum: 1 of 3" in stranger.until_it_says("this node waits for agreement")
        _until_one_leads(a, b)


def test_two_daemons_with_the_same_id(tmp_path: Path) -> None:
    with loopback(tmp_path, "a", "b") as cluster:
        a, b = cluster.furnish("a"), cluster.furnish("b")
        double = cluster.furnish("b", place="double")
        _move(double, "b", "127.0.0.2")
        a.start()
        b.start()
        a.until_it_says('event="a node is connected"')
        _until_one_leads(a, b)
        double.start()
        assert "two daemons run as node b" in double.until_it_says("not accepted by node a")
        assert "1 of 2 nodes in reach, 1 more needed" in double.until_it_says("this node waits for agreement")
        double.end()
        assert a.end() == ExitCode.OK
        assert a.said.count("a node is connected") == 1, "it was disturbed"


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with loopback(tmp_path, "a") as cluster:
        a = cluster.furnish("a")
        with _tiny_disk(a.directory / "data") as disk:
            (disk / "ballast").write_bytes(b"x" * _free_bytes(disk))
            a.start()
            assert a.wait() not in (ExitCode.OK, ExitCode.INTERRUPTED)
            lines = [line for line in a.said.splitlines() if "level=" not in line]
            assert "No space left on device" in lines[0], a.said
            assert "Traceback" not in a.said
            (disk / "ballast").unlink()
            a.start()
            a.until_it_says("this node leads")
            a.end()


def _until_one_leads(*daemons: Daemon) -> None:
    """Whoever it is; all are connected."""
    for daemon in daemons:
        daemon.until_it_says("a node is connected")
    until_one_says("this node leads", *daemons)


def _move(daemon: Daemon, name: str, host: str) -> None:
    """Another machine with a copy of the node's certificate: it has an address of its own."""
    path = daemon.directory / "node.toml"
    head, mark, tail = path.read_text().partition(f'[[nodes]]\nid = "{name}"\n')
    own, rest_mark, rest = tail.partition("[[nodes]]")
    path.write_text(head + mark + own.replace("127.0.0.1", host) + rest_mark + rest)


@contextmanager
def _tiny_disk(path: Path) -> Iterator[Path]:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "kgm-tiny", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _free_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
