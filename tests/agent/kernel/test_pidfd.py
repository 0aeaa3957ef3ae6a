"""Processes as descriptors."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess

import pytest

from agent.errors import KernelError
from agent.kernel import pidfd


def test_a_descriptor_of_another_process_is_shared() -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(["/bin/sleep", "100"], stdin=reading)
    os.close(reading)
    target = pidfd.open_pidfd(process.pid)
    try:
        own = pidfd.get_descriptor(target, 0)
        assert not os.get_inheritable(own)
        os.write(writing, b"x")
        assert os.read(own, 1) == b"x"
        os.close(own)
        with pytest.raises(KernelError, match="descriptor 999"):
            pidfd.get_descriptor(target, 999)
        assert pidfd.try_descriptor(target, 999) == -errno.EBADF
        assert pidfd.send_signal(target, signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
        assert not pidfd.send_signal(target, signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        os.close(target)
        os.close(writing)


def test_a_process_that_is_gone_can_not_be_opened() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    with pytest.raises(KernelError, match="ESRCH"):
        pidfd.open_pidfd(process.pid)


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 3", 3 << 8), ("kill -9 $$", signal.SIGKILL)])
def test_how_a_process_of_another_one_has_ended_is_told(command: str, status: int) -> None:
    process = subprocess.Popen(["/bin/sh", "-c", command])
    target = pidfd.open_pidfd(process.pid)
    try:
        select.select([target], [], [])
        assert pidfd.exit_status(target, process.pid) == status
        process.wait()
        release = tuple(map(int, os.uname().release.split(".")[:2]))
        assert pidfd.exit_status(target, process.pid) == (status if release >= (6, 15) else None)
    finally:
        os.close(target)
