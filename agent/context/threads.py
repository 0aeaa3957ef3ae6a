"""Threads: registers, extended state, signals of their own, and what the kernel knows of each besides.

Registers and pending signals are read at every stop; the rest, which a thread sets up at its start and hardly ever
changes, when a thread is first and second seen and then in turn, one thread at every 16th stop. The alternate signal
stack and the address that is cleared when the thread ends must be asked for by the thread itself (an injected call
each, 50 us). In a dying program nothing can be injected: there what was last known holds.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
from msgpack import packb

from agent.context import process, signals
from agent.context.clocks import CLOCK_MONOTONIC
from agent.context.credentials import Credentials
from agent.context.record import unpack
from agent.errors import RestoreError
from agent.kernel import procfs, ptrace
from agent.kernel.libc import NR
from agent.kernel.register_block import RegisterBlock
from agent.kernel.registers import BYTES, COUNT, RIP
from agent.kernel.robust_list import robust_list
from agent.mirror.batch import Batch
from agent.tracing.restart import BlockedCall, restart_for_takeover, undo_prepared_restart
from agent.tracing.stopped import Stopped
from transport.checkpoint import Records

if TYPE_CHECKING:
    from agent.mirror.shadow import Shadow

PREFIX: Final = "thread/"
STACK_T_BYTES: Final = 24
SS_DISABLE: Final = 2
_AUTODISARM_SIGNED: Final = -(1 << 31)
NO_ALTERNATE_STACK: Final = struct.pack("<QiiQ", 0, SS_DISABLE, 0, 0)
PR_GET_TID_ADDRESS: Final = 40
PR_SET_NAME: Final = 15
# glibc: struct pthread has `tid` 16 bytes before `robust_head` (nptl/descr.h); only a guess that is verified.
_TID_BEFORE_ROBUST_HEAD: Final = 16
_YOUNG_LOOKS: Final = 2
_LOOK_EVERY: Final = 16
_RSEQ_CS_OFFSET: Final = 8


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """One thread, as "thread/<tid in its PID namespace>".

    registers: 27 words (struct user_regs_struct), as at the stop, before any restart of a call. xstate: XSAVE area in
    standard format. mask: blocked signals, bit n-1 for signal n. pending: siginfo_t's of 128 bytes. rseq: pointer,
    size, signature, flags. robust_list: address, length. alternate_stack: stack_t. cpus: numbers, () for all. priority:
    of the real-time policies.
    """

    registers: bytes
    xstate: bytes
    mask: int
    pending: bytes
    blocked_call: tuple[int, int] | None
    rseq: tuple[int, int, int, int]
    robust_list: tuple[int, int]
    clear_tid_address: int
    alternate_stack: bytes
    name: bytes
    cpus: tuple[int, ...]
    nice: int
    policy: int
    priority: int


# The last fields of a record: what is read only now and then, and set by rows of a batch.
_SETTINGS: Final = (
    "rseq", "robust_list", "clear_tid_address", "alternate_stack", "name", "cpus", "nice", "policy", "priority",
)  # fmt: skip
_RECORD_HEAD: Final = bytes([0x90 | len(fields(ThreadRecord))])  # msgpack: an array of up to 15


@dataclass(slots=True)
class _Known:
    """What is read of a thread only now and then; `packed`: all of that, as the end of a record."""

    looks: int = 0
    rseq: tuple[int, int, int, int] = (0, 0, 0, 0)
    robust_list: tuple[int, int] = (0, 0)
    clear_tid_address: int = 0
    alternate_stack: bytes = NO_ALTERNATE_STACK
    name: bytes = b""
    cpus: tuple[int, ...] = ()
    nice: int = 0
    policy: int = 0
    priority: int = 0
    packed: bytes = b""

    def pack(self) -> None:
        self.packed = b"".join(packb(getattr(self, name)) for name in _SETTINGS)


class ThreadCapture:
    """Captures the threads of one program; keeps the buffers and what it knows of each thread between stops.

    blocked: what the program's `RestartTable` says of a thread (host tid).
    """

    def __init__(self, blocked: Callable[[int], BlockedCall | None]) -> None:
        self._blocked = blocked
        self._block = RegisterBlock()
        self._known: dict[int, _Known] = {}
        self._all_cpus = tuple(sorted(os.sched_getaffinity(0)))
        self._captures = 0

    def capture(self, stopped: Stopped) -> Records:
        """One record per thread; raises as `read`."""
        return self.read(stopped)()

    def learn(self, stopped: Stopped) -> bool:
        """Look at one thread that has not been looked at often enough; False when there is none.

        Raises TraceeGone when the program was killed meanwhile.
        """
        for tid, number in stopped.threads.items():
            known = self._known.setdefault(tid, _Known())
            if known.looks < _YOUNG_LOOKS:
                self._look(stopped, tid, number, known)
                return True
        return False

    def read(self, stopped: Stopped) -> Callable[[], Records]:
        """Read all threads at a stop; what it gives makes one record per thread, at any time later.

        Raises TraceeGone when the program was killed meanwhile.
        """
        tids = list(stopped.threads)
        block = stopped.block
        if block is None:
            block = self._block
            block.read(tids)
        registers, xstate = block.registers.tobytes(), block.xstate.tobytes()
        xstate_bytes = block.xstate.shape[1]
        masks = block.masks.tolist()
        self._known = {tid: self._known.get(tid) or _Known() for tid in tids}
        self._captures += 1
        turn = self._captures // _LOOK_EVERY % len(tids) if self._captures % _LOOK_EVERY == 0 else -1
        found: list[tuple[int, bytes, tuple[int, int] | None, bytes]] = []
        for row, (tid, number) in enumerate(stopped.threads.items()):
            known = self._known[tid]
            if stopped.dying or known.looks < _YOUNG_LOOKS or turn == row:
                self._look(stopped, tid, number, known)
            pending = ptrace.pending_signals(tid, shared=False)
            found.append((number, pending, self._blocked_call(tid), known.packed))

        def tell() -> Records:
            records: Records = {}
            for row, (number, pending, blocked, settings) in enumerate(found):
                # What `pack` would make of a ThreadRecord, without making one.
                records[f"{PREFIX}{number}"] = b"".join(
                    (
                        _RECORD_HEAD,
                        packb(registers[row * BYTES : (row + 1) * BYTES]),
                        packb(xstate[row * xstate_bytes : (row + 1) * xstate_bytes]),
                        packb(masks[row]),
                        packb(pending),
                        packb(blocked),
                        settings,
                    )
                )
            return records

        return tell

    def _blocked_call(self, tid: int) -> tuple[int, int] | None:
        call = self._blocked(tid)
        if call is None:
            return None
        return call.number, -1 if call.deadline_ns is None else call.deadline_ns

    def _look(self, stopped: Stopped, tid: int, number: int, known: _Known) -> None:
        """Read what is not read at every stop."""
        rseq = ptrace.get_rseq(tid)
        known.rseq = rseq.pointer, rseq.size, rseq.signature, rseq.flags
        known.robust_list = robust_list(tid)
        known.name = procfs.read_bytes(stopped.pid, "comm", tid).rstrip(b"\n")
        cpus = tuple(sorted(os.sched_getaffinity(tid)))
        known.cpus = () if cpus == self._all_cpus else cpus
        known.nice = os.getpriority(os.PRIO_PROCESS, tid)
        known.policy = os.sched_getscheduler(tid)
        known.priority = os.sched_getparam(tid).sched_priority
        if not stopped.dying:
            with stopped.remote(tid) as call:
                call(NR.SIGALTSTACK, 0, call.scratch)
                known.alternate_stack = os.pread(stopped.memory, STACK_T_BYTES, call.scratch)
                call(NR.PRCTL, PR_GET_TID_ADDRESS, call.scratch)
                known.clear_tid_address = struct.unpack("<Q", os.pread(stopped.memory, 8, call.scratch))[0]
            known.looks += 1
        elif not known.looks:
            known.clear_tid_address = _guess_tid_address(stopped.memory, number, known.robust_list[0])
        known.pack()


def numbers(records: Records) -> list[int]:
    """The tids, in the program's PID namespace, of all threads that have a record; ascending."""
    return sorted(int(key.removeprefix(PREFIX)) for key in records if key.startswith(PREFIX))


def prepare(shadow: Shadow, records: Records) -> None:
    """Make and end threads until the shadow has the program's, and make the rows that set each one up."""
    shadow.set_threads(numbers(records))
    _settings(shadow, records)


def activate(shadow: Shadow, records: Records) -> dict[int, Batch]:
    """One batch for each thread (by host tid): its name, stacks, credentials, pending signals and, at last, rseq.

    The kernel writes into a registered rseq area whenever the thread comes back from the kernel (rseq(2)), so that must
    come after all memory. The batches are to run together, each in its own thread.
    """
    batches: dict[int, Batch] = {}
    for number, settings in _settings(shadow, records).items():
        batch = shadow.batch()
        batch.extend(settings)
        batches[shadow.threads[number]] = batch
    return batches


def set_registers(shadow: Shadow, records: Records) -> None:
    """Give each thread its registers, extended state and signal mask; interrupted system calls will be made again.

    After this a thread can only be let go. Raises RestoreError for a record that is none, TraceeGone.
    """
    now_ns = shadow.clocks.now_ns(CLOCK_MONOTONIC)
    handled = signals.Handled(records)
    for number in numbers(records):
        record = _record(records, number)
        tid = shadow.threads[number]
        values = np.frombuffer(record.registers, np.uint64).copy()
        if len(values) != COUNT:
            raise RestoreError(f"thread {number} has {len(record.registers)} bytes of registers, not {BYTES}")
        undo_prepared_restart(values, shadow.read)
        blocked = record.blocked_call
        writes = restart_for_takeover(
            values,
            now_ns=now_ns,
            blocked=None if blocked is None else BlockedCall(blocked[0], None if blocked[1] < 0 else blocked[1]),
            interruption=handled.next_of(record.pending, record.mask),
        )
        for address, content in writes:
            shadow.write(address, content)
        if record.rseq[0]:
            _leave_critical_section(shadow, record.rseq[0], values)
        ptrace.set_xstate(tid, record.xstate)
        ptrace.set_registers(tid, values)
        ptrace.set_signal_mask(tid, record.mask)


def _record(records: Records, number: int) -> ThreadRecord:
    key = f"{PREFIX}{number}"
    return _decoded(records[key], key)


@lru_cache(maxsize=1024)
def _decoded(data: bytes, key: str) -> ThreadRecord:
    return unpack(ThreadRecord, data, key)


def _settings(shadow: Shadow, records: Records) -> Mapping[int, Batch]:
    """The rows of each thread, made anew only for a thread whose settings changed; not those of registers."""
    leader = process.record_of(records)
    owner = unpack(Credentials, leader.credentials, process.KEY)
    found: dict[int, Batch] = {}
    for number in numbers(records):
        record = _record(records, number)

        def build(batch: Batch, record: ThreadRecord = record, number: int = number) -> None:
            _add_settings(batch, record)
            if leader.personality:
                batch.add(NR.PERSONALITY, leader.personality, name="personality")
            owner.add_rows(batch, shadow.born_with)
            signals.add_pending(batch, shadow.number, number, record.pending)
            pointer, size, signature, _flags = record.rseq
            if pointer:
                batch.add(NR.RSEQ, pointer, size, 0, signature, name=f"rseq of thread {number}")

        # Everything but registers, extended state and mask, which change all the time and are not set by rows.
        settings = tuple(getattr(record, name) for name in _SETTINGS)
        found[number] = shadow.piece(f"{PREFIX}{number}", (settings, record.pending, owner, leader.personality), build)
    return found


def _add_settings(batch: Batch, record: ThreadRecord) -> None:
    batch.add(NR.PRCTL, PR_SET_NAME, record.name[:15] + b"\0", 0, 0, 0, name="name of a thread")
    batch.add(NR.SET_TID_ADDRESS, record.clear_tid_address, name="set_tid_address")
    if record.robust_list[0]:
        batch.add(NR.SET_ROBUST_LIST, *record.robust_list, name="robust list")
    pointer, flags, size = struct.unpack("<Qi4xQ", record.alternate_stack)
    if not flags & SS_DISABLE:
        # SS_ONSTACK says that the thread stands on it now, and can't be set.
        stack = struct.pack("<QiiQ", pointer, flags & _AUTODISARM_SIGNED, 0, size)
        batch.add(NR.SIGALTSTACK, stack, 0, name="alternate signal stack")
    if record.cpus:
        mask = sum(1 << cpu for cpu in record.cpus)
        size = (mask.bit_length() + 63) // 64 * 8
        # This node may not have those processors.
        batch.add(NR.SCHED_SETAFFINITY, 0, size, mask.to_bytes(size, "little"), name="affinity", may_fail=True)
    if (record.policy, record.priority) != (0, 0):
        parameter = struct.pack("<i", record.priority)
        batch.add(NR.SCHED_SETSCHEDULER, 0, record.policy, parameter, name="scheduling policy")
    if record.nice:
        batch.add(NR.SETPRIORITY, 0, 0, record.nice, name="nice value")


def _leave_critical_section(shadow: Shadow, area: int, values: ptrace.Registers) -> None:
    """A thread that stood in a restartable sequence goes to its abort handler, as after any preemption (rseq(2))."""
    section = struct.unpack("<Q", shadow.read(area + _RSEQ_CS_OFFSET, 8))[0]
    if not section:
        return
    _, _, start, length, abort = struct.unpack("<IIQQQ", shadow.read(section, 32))
    if start <= int(values[RIP]) < start + length:
        values[RIP] = abort
    shadow.write(area + _RSEQ_CS_OFFSET, bytes(8))


def _guess_tid_address(memory: int, number: int, robust_head: int) -> int:
    """Where a thread's tid is to be cleared, if it could never be asked: verified by what stands there; 0: unknown."""
    if not robust_head:
        return 0
    address = robust_head - _TID_BEFORE_ROBUST_HEAD
    try:
        stands = os.pread(memory, 4, address)
    except OSError:
        return 0
    return address if stands == struct.pack("<i", number) else 0
