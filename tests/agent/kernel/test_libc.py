"""System calls by number."""

from __future__ import annotations

import errno
import os

import pytest

from agent.errors import KernelError
from agent.kernel.libc import NR, attempt, attempt_held, call, check, signed


def test_a_call_gives_its_result() -> None:
    assert call(NR.GETPID) == attempt(NR.GETPID) == attempt_held(NR.GETPID) == os.getpid()


def test_an_error_is_a_negative_errno_or_names_call_and_target() -> None:
    assert attempt(NR.CLOSE, 9999) == attempt_held(NR.CLOSE, 9999) == -errno.EBADF
    with pytest.raises(KernelError, match="close of descriptor 9999: Bad file descriptor \\(EBADF\\)") as error:
        call(NR.CLOSE, 9999, target="descriptor 9999")
    assert error.value.errno == errno.EBADF


def test_check_tells_errors_from_addresses() -> None:
    assert check(0, "mmap", "x") == 0
    assert check(-5000, "mmap", "x") == -5000
    with pytest.raises(KernelError, match="EPERM"):
        check(-1, "mmap", "x")


def test_numbers_have_names() -> None:
    assert NR.name(NR.EPOLL_PWAIT2) == "epoll_pwait2"
    assert NR.name(9999) == "system call 9999"


def test_words_are_signed() -> None:
    assert signed(2**64 - 4) == -4
    assert signed(5) == 5
