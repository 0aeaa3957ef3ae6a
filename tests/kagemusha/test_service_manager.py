"""What systemd hears of a process, on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagemusha.service_manager import ServiceManager


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_it_hears_what_the_process_says(systemd: socket.socket, tmp_path: Path) -> None:
    manager = ServiceManager.taken_from({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    manager.ready("node a")
    manager.ping()
    manager.stopping()
    assert [systemd.recv(100) for _ in range(3)] == [b"READY=1\nSTATUS=node a", b"WATCHDOG=1", b"STOPPING=1"]


def test_what_it_starts_does_not_speak_for_it() -> None:
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "9000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    assert ServiceManager.taken_from(environment).ping_s == pytest.approx(3.0)
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}],
)
def test_nobody_waits_for_pings(environment: dict[str, str]) -> None:
    assert ServiceManager.taken_from(environment).ping_s is None


def test_without_systemd_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    ServiceManager.taken_from({}).ready("alone")
    ServiceManager.taken_from({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ping()
