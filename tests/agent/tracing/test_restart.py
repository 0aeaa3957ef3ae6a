"""Blocking calls under stops that never end: each gives what it gives without a tracer, and in its time."""

from __future__ import annotations

import errno
import struct

import numpy as np
import pytest

from agent.kernel import registers as r
from agent.kernel.libc import NR, signed
from agent.tracing.restart import BlockedCall, Registers, RestartTable, restart_for_takeover, suspect
from tests.agent.traced import running

EXPIRED = {
    "epoll_wait": (0, 0),
    "epoll_pwait": (0, 0),
    "epoll_pwait2": (0, 0),
    "epoll_event": (1, 0),
    "epoll_handler": (-1, errno.EINTR),
    "epoll_ignored": (0, 0),
    "poll": (0, 0),
    "ppoll": (0, 0),
    "select": (0, 0),
    "nanosleep": (0, 0),
    "clock_nanosleep": (0, 0),
    "futex": (-1, errno.ETIMEDOUT),
    "recv": (-1, errno.EAGAIN),
    "read_socket": (-1, errno.EAGAIN),
    "accept": (-1, errno.EAGAIN),
    "sigtimedwait": (-1, errno.EAGAIN),
    "semtimedop": (-1, errno.EAGAIN),
    "semop": (0, 0),
    "io_getevents": (0, 0),
}
TIMEOUT_MS = 300


@pytest.mark.parametrize("call", EXPIRED)
def test_a_blocked_call_does_not_notice_stops(call: str) -> None:
    """The stops come far more often than the timeout: begun anew at each, it would never end."""
    with running("blocked", call) as program:
        program.go()
        line = program.await_line(every_s=0.02, do=program.stop_and_go)
    result, error, elapsed_ms = map(int, line.split())
    assert (result, error) == EXPIRED[call]
    assert elapsed_ms >= TIMEOUT_MS - 1


def table(
    memory: dict[int, bytes] | None = None, socket_timeout_s: float | None = None
) -> tuple[RestartTable, list[int]]:
    """A table over a dictionary for a memory, and a clock to be set."""
    content = {} if memory is None else memory
    clock = [1_000_000_000]
    return RestartTable(
        lambda: clock[0], lambda address, length: content[address], content.__setitem__, lambda *_: socket_timeout_s
    ), clock


def stopped_in(number: int, result: int, **values: int) -> Registers:
    """The registers of a thread stopped in a call."""
    registers = np.zeros(r.COUNT, np.uint64)
    registers[r.ORIG_RAX] = r.word(number)
    registers[r.RAX] = r.word(result)
    registers[r.RIP] = 0x1002
    registers[r.RSP] = 0x7000_0000
    for name, value in values.items():
        registers[r.NAMES.index(name)] = r.word(value)
    return registers


def timespec(seconds: int, nanoseconds: int = 0) -> bytes:
    return struct.pack("<qq", seconds, nanoseconds)


def test_a_restarted_epoll_wait_has_the_time_that_is_left() -> None:
    known, clock = table()
    registers = stopped_in(NR.EPOLL_WAIT, -r.EINTR, r10=1000)
    assert known.repair(1, registers)
    assert signed(registers[r.RAX]) == -r.ERESTARTNOHAND
    assert int(registers[r.R10]) & 0xFFFF_FFFF == 1000
    clock[0] += 400_000_000
    registers[r.RAX] = r.word(-r.EINTR)
    assert known.repair(1, registers)
    assert int(registers[r.R10]) & 0xFFFF_FFFF == 600
    clock[0] += 900_000_000
    registers[r.RAX] = r.word(-r.EINTR)
    known.repair(1, registers)
    assert int(registers[r.R10]) & 0xFFFF_FFFF == 0


def test_the_next_call_with_the_same_arguments_is_another_one() -> None:
    known, clock = table()
    known.repair(1, stopped_in(NR.EPOLL_WAIT, -r.EINTR, r10=1000))
    clock[0] += 900_000_000
    fresh = stopped_in(NR.EPOLL_WAIT, -r.EINTR, r10=1000)
    known.repair(1, fresh)
    assert int(fresh[r.R10]) & 0xFFFF_FFFF == 1000


def test_no_timeout_stays_none() -> None:
    known, _ = table()
    registers = stopped_in(NR.EPOLL_WAIT, -r.EINTR, r10=0xFFFF_FFFF)
    assert known.repair(1, registers)
    assert int(registers[r.R10]) == 0xFFFF_FFFF


def test_a_timespec_is_replaced_below_the_red_zone() -> None:
    memory = {0x5000: timespec(2)}
    known, clock = table(memory)
    registers = stopped_in(NR.RT_SIGTIMEDWAIT, -r.EINTR, rdx=0x5000)
    known.repair(1, registers)
    own = int(registers[r.RDX])
    assert own < 0x7000_0000 - r.RED_ZONE_BYTES
    assert memory == {0x5000: timespec(2), own: timespec(2)}
    clock[0] += 1_500_000_000
    registers[r.RAX] = r.word(-r.EINTR)
    known.repair(1, registers)
    assert memory[own] == timespec(0, 500_000_000)


def test_a_socket_whose_time_is_up_says_so() -> None:
    known, clock = table(socket_timeout_s=1.0)
    registers = stopped_in(NR.RECVFROM, -r.EINTR, rdi=5)
    known.repair(1, registers)
    assert int(registers[r.RDI]) & 0xFFFF_FFFF == 5
    clock[0] += 1_000_000_001
    registers[r.RAX] = r.word(-r.EINTR)
    known.repair(1, registers)
    assert signed(registers[r.RAX]) == -errno.EAGAIN


@pytest.mark.parametrize(
    ("number", "result"),
    [(r.NO_CALL, -r.EINTR), (NR.CLOSE, -r.EINTR), (NR.EPOLL_WAIT, 3), (NR.FUTEX, -r.ERESTARTSYS), (NR.READ, -11)],
)
def test_what_needs_no_repair_is_left_alone(number: int, result: int) -> None:
    known, _ = table()
    registers = stopped_in(number, result)
    before = registers.copy()
    assert not known.repair(1, registers)
    assert (registers == before).all()


def test_a_takeover_begins_an_interrupted_call_anew() -> None:
    registers = stopped_in(NR.FUTEX, -r.ERESTARTSYS)
    assert restart_for_takeover(registers, now_ns=0) == []
    assert int(registers[r.RAX]) == NR.FUTEX
    assert int(registers[r.RIP]) == 0x1000
    assert int(registers[r.ORIG_RAX]) == r.NO_CALL


def test_a_takeover_leaves_a_finished_call_alone() -> None:
    registers = stopped_in(NR.WRITE, 10)
    assert restart_for_takeover(registers, now_ns=0) == []
    assert int(registers[r.RAX]) == 10
    assert int(registers[r.RIP]) == 0x1002
    assert int(registers[r.ORIG_RAX]) == r.NO_CALL


def test_a_takeover_continues_a_sleep_with_what_is_left_of_it() -> None:
    memory = {0x5000: timespec(5)}
    known, clock = table(memory)
    known.repair(1, stopped_in(NR.NANOSLEEP, -r.ERESTART_RESTARTBLOCK, rdi=0x5000))
    clock[0] += 2_000_000_000
    registers = stopped_in(NR.RESTART_SYSCALL, -r.ERESTART_RESTARTBLOCK, rdi=0x5000)
    known.repair(1, registers)
    blocked = known.blocked(1)
    assert blocked == BlockedCall(NR.NANOSLEEP, 6_000_000_000)
    writes = restart_for_takeover(registers, now_ns=clock[0], blocked=blocked)
    assert int(registers[r.RAX]) == NR.NANOSLEEP
    assert writes == [(int(registers[r.RDI]), timespec(3))]


def test_a_takeover_continues_a_poll_with_what_is_left_of_it() -> None:
    blocked = BlockedCall(NR.POLL, 1_500_000_000)
    registers = stopped_in(NR.RESTART_SYSCALL, -r.ERESTART_RESTARTBLOCK, rdx=2000)
    assert restart_for_takeover(registers, now_ns=1_000_000_000, blocked=blocked) == []
    assert int(registers[r.RAX]) == NR.POLL
    assert int(registers[r.RDX]) == 500


def test_absolute_waits_need_no_time() -> None:
    known, _ = table()
    wait_bitset = 9
    known.repair(1, stopped_in(NR.FUTEX, -r.ERESTART_RESTARTBLOCK, rsi=wait_bitset, r10=0x5000))
    assert known.blocked(1) == BlockedCall(NR.FUTEX, None)


@pytest.mark.parametrize(
    ("result", "interruption", "restarted"),
    [
        (-r.ERESTARTSYS, "handler", False),
        (-r.ERESTARTSYS, "restarting handler", True),
        (-r.ERESTARTNOHAND, "restarting handler", False),
        (-r.ERESTARTNOINTR, "handler", True),
        (-r.ERESTARTNOHAND, "none", True),
    ],
)
def test_a_pending_handler_interrupts_as_the_kernel_would(result: int, interruption: str, restarted: bool) -> None:
    registers = stopped_in(NR.EPOLL_WAIT, result)
    restart_for_takeover(registers, now_ns=0, interruption=interruption)  # type: ignore[arg-type]
    assert signed(registers[r.RAX]) == (NR.EPOLL_WAIT if restarted else -r.EINTR)


@pytest.mark.parametrize(
    ("registers", "is_file", "expected"),
    [
        (stopped_in(-1, -r.EFAULT), False, False),
        (stopped_in(NR.READ, -r.EFAULT, rdx=10), False, True),
        (stopped_in(NR.EPOLL_WAIT, -r.EINTR), False, False),
        (stopped_in(NR.MMAP, -r.EINTR), False, False),
        (stopped_in(NR.CLOSE, -r.EINTR), False, True),
        (stopped_in(NR.WRITE, 10, rdx=10), True, False),
        (stopped_in(NR.WRITE, 9, rdx=10), True, True),
        (stopped_in(NR.READ, 40, rdx=16384), False, False),
        (stopped_in(NR.WRITEV, 40), True, True),
        (stopped_in(NR.GETPID, 40), True, False),
    ],
)
def test_suspicion(registers: Registers, is_file: bool, expected: bool) -> None:
    assert suspect(registers, lambda _: is_file) is expected


def test_a_restart_that_is_prepared_and_not_made_is_undone() -> None:
    restarts, _ = table({0x1000: b"\x0f\x05"})
    registers = stopped_in(NR.POLL, -r.ERESTART_RESTARTBLOCK, rdx=5000)
    assert not restarts.repair(7, registers)
    known = restarts.blocked(7)
    registers[r.RAX], registers[r.RIP] = NR.RESTART_SYSCALL, 0x1000
    assert restarts.note(7, registers)
    assert (signed(registers[r.RAX]), int(registers[r.RIP])) == (-r.ERESTART_RESTARTBLOCK, 0x1002)
    assert restarts.blocked(7) == known
    assert restart_for_takeover(registers, now_ns=1_000_000_000, blocked=known) == []
    assert (int(registers[r.RAX]), int(registers[r.RIP]), int(registers[r.RDX])) == (NR.POLL, 0x1000, 5000)


def test_a_call_that_returned_219_is_left_alone() -> None:
    restarts, _ = table({0x1002: b"\x48\x89"})
    registers = stopped_in(NR.POLL, NR.RESTART_SYSCALL)
    before = registers.copy()
    assert not restarts.note(7, registers)
    assert (registers == before).all()
    assert restarts.blocked(7) is None


def test_a_dying_thread_is_not_taken_for_what_it_did_at_the_last_stop() -> None:
    restarts, _ = table()
    restarts.repair(7, stopped_in(NR.POLL, -r.ERESTART_RESTARTBLOCK, rdx=5000))
    assert restarts.blocked(7) is not None
    restarts.note(7, stopped_in(NR.READ, -r.ERESTARTSYS))
    assert restarts.blocked(7) is None
