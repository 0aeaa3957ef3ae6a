"""New processes with chosen ids. A child may only leave at once, as the interpreter does not know that it is one."""

from __future__ import annotations

import os

import pytest

from agent.errors import KernelError
from agent.kernel import pidfd
from agent.kernel.clone import CLONE_NEWPID, clone3
from agent.kernel.namespaces import children_in_pid_namespace
from agent.kernel.wait import reap


def leave(code: int) -> None:
    os._exit(code)


def test_a_process_is_made() -> None:
    pid = clone3()
    if pid == 0:
        leave(5)
    assert os.waitstatus_to_exitcode(reap(pid) or 0) == 5


def test_a_process_gets_the_id_that_was_chosen() -> None:
    reading, writing = os.pipe()
    init = clone3(CLONE_NEWPID)
    if init == 0:
        os.close(writing)
        os.read(reading, 1)
        leave(0)
    descriptor = pidfd.open_pidfd(init)
    with children_in_pid_namespace(descriptor):
        pid = clone3(set_tid=[55])
        if pid == 0:
            leave(0 if os.getpid() == 55 else 1)
        status = reap(pid)
        second = clone3()
        if second == 0:
            leave(0)
        reap(second)
    plain = clone3()
    if plain == 0:
        leave(int(os.getpid() < 10))
    assert status == reap(plain) == 0
    for number in (writing, reading, descriptor):
        os.close(number)
    assert reap(init) == 0


def test_what_can_not_be_made_is_an_error() -> None:
    with pytest.raises(KernelError, match="clone3 of a new process with id \\[1\\]"):
        clone3(set_tid=[1])
    with pytest.raises(KernelError, match="EINVAL"):
        clone3(0xFFFF << 40)
