"""Signal handlers, and the signals that are pending for the whole process.

A handler can only be read by the program itself (rt_sigaction(2), an injected call of 30 us each), so they are read
again only when /proc says that the set of caught or ignored signals changed, and at every `refresh`. A swap of one
handler for another in between goes unseen until the next `refresh`.
"""

from __future__ import annotations

import os
import signal
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from agent.context.record import pack, unpack
from agent.errors import RestoreError
from agent.kernel import procfs, ptrace
from agent.kernel.libc import NR
from agent.mirror.batch import Batch
from agent.tracing.restart import Interruption
from agent.tracing.stopped import Stopped
from transport.checkpoint import Records

if TYPE_CHECKING:
    from agent.mirror.shadow import Shadow

KEY: Final = "signals"
SIGNALS_MAX: Final = 64
SIGACTION_BYTES: Final = 32
SIG_DFL: Final = 0
SIG_IGN: Final = 1
SA_RESTART: Final = 0x10000000
UNCATCHABLE: Final = (signal.SIGKILL, signal.SIGSTOP)
_DEFAULT: Final = bytes(SIGACTION_BYTES)


@dataclass(frozen=True, slots=True)
class SignalsRecord:
    """Key "signals".

    caught, ignored: signal sets (bit n-1 for signal n) as /proc/PID/status has them. actions: (number, struct
    kernel_sigaction of 32 bytes) of every signal whose action is not the default one. pending: siginfo_t's of 128
    bytes.
    """

    caught: int
    ignored: int
    actions: tuple[tuple[int, bytes], ...]
    pending: bytes


def capture(stopped: Stopped, status: procfs.Status | None = None) -> Records:
    """Handlers and pending signals; `status`: of the leader, when the caller has read it at this stop already."""
    status = status or procfs.status(stopped.pid)
    before = _record(stopped.previous[KEY]) if KEY in stopped.previous else None
    changed = before is None or (before.caught, before.ignored) != (status.caught, status.ignored)
    if (changed or stopped.refresh) and not stopped.dying:
        actions = _read_actions(stopped, status.caught | status.ignored)
    else:
        actions = before.actions if before is not None else ()
    pending = ptrace.pending_signals(_some_thread(stopped), shared=True)
    record = SignalsRecord(status.caught, status.ignored, actions, pending)
    return {KEY: stopped.previous[KEY] if record == before else pack(record)}


def prepare(shadow: Shadow, records: Records) -> None:
    """Make the rows of all handlers ahead."""
    _rows(shadow, records)


def activate(shadow: Shadow, records: Records, batch: Batch) -> None:
    """All handlers. The action of SIGTRAP stays the default one while batches run (see `trap_action`)."""
    batch.extend(_rows(shadow, records))


def trap_action(records: Records) -> bytes | None:
    """The program's action for SIGTRAP, to be set by the last system call before it goes; None for the default one.

    A batch ends with int3, and the kernel forces that signal upon the thread: an ignored SIGTRAP would be reset.
    """
    return dict(_record(records[KEY]).actions).get(signal.SIGTRAP)


def shared_pending(records: Records) -> bytes:
    """The siginfo_t's that are pending for the process as a whole."""
    return _record(records[KEY]).pending


def add_pending(batch: Batch, process_number: int, thread_number: int | None, siginfos: bytes) -> None:
    """Rows that queue signals again, from within: to thread `thread_number`, or to the process as a whole (None).

    Ids are those in the shadow's own PID namespace. A thread may send itself any siginfo (rt_sigqueueinfo(2)), so the
    batch must run in that very thread, or in the leader for the process as a whole.
    """
    for start in range(0, len(siginfos), ptrace.SIGINFO_BYTES):
        information = siginfos[start : start + ptrace.SIGINFO_BYTES]
        number = struct.unpack_from("<i", information)[0]
        if number in UNCATCHABLE or not 0 < number <= SIGNALS_MAX:
            continue
        name = f"pending signal {number}"
        if thread_number is None:
            batch.add(NR.RT_SIGQUEUEINFO, process_number, number, information, name=name)
        else:
            batch.add(NR.RT_TGSIGQUEUEINFO, process_number, thread_number, number, information, name=name)


class Handled:
    """Which pending signals will run a handler of the program first, before an interrupted system call goes on."""

    def __init__(self, records: Records) -> None:
        record = _record(records[KEY])
        self._shared = _numbers(record.pending)
        self._flags = {
            number: struct.unpack_from("<Q", action, 8)[0]
            for number, action in record.actions
            if struct.unpack_from("<Q", action)[0] not in (SIG_DFL, SIG_IGN)
        }

    def next_of(self, pending: bytes, mask: int) -> Interruption:
        """What the next signal of a thread does, which has `pending` ones of its own and blocks `mask`.

        A signal for the whole process is counted for each thread that does not block it.
        """
        numbers = {number for number in self._shared | _numbers(pending) if not mask >> (number - 1) & 1}
        handled = sorted(numbers & self._flags.keys())
        if not handled:
            return "none"
        return "restarting handler" if self._flags[handled[0]] & SA_RESTART else "handler"


def _numbers(siginfos: bytes) -> set[int]:
    return {struct.unpack_from("<i", siginfos, start)[0] for start in range(0, len(siginfos), ptrace.SIGINFO_BYTES)}


@lru_cache(maxsize=8)
def _record(data: bytes) -> SignalsRecord:
    return unpack(SignalsRecord, data, KEY)


def _rows(shadow: Shadow, records: Records) -> Batch:
    actions = _record(records[KEY]).actions
    return shadow.piece(KEY, actions, lambda batch: _add_actions(batch, dict(actions)))


def _add_actions(batch: Batch, actions: dict[int, bytes]) -> None:
    for number in range(1, SIGNALS_MAX + 1):
        if number in UNCATCHABLE or number == signal.SIGTRAP:
            continue
        action = actions.get(number, _DEFAULT)
        if len(action) != SIGACTION_BYTES:
            raise RestoreError(f"the action of signal {number} has {len(action)} bytes")
        batch.add(NR.RT_SIGACTION, number, action, 0, ptrace.SIGMASK_BYTES, name=f"action of signal {number}")


def _read_actions(stopped: Stopped, wanted: int) -> tuple[tuple[int, bytes], ...]:
    # SA_NOCLDWAIT and SA_NOCLDSTOP mean something to SIGCHLD even with the default action.
    wanted |= 1 << (signal.SIGCHLD - 1)
    found: list[tuple[int, bytes]] = []
    with stopped.remote(_some_thread(stopped)) as call:
        for number in range(1, SIGNALS_MAX + 1):
            if not wanted >> (number - 1) & 1 or number in UNCATCHABLE:
                continue
            call(NR.RT_SIGACTION, number, 0, call.scratch, ptrace.SIGMASK_BYTES)
            action = os.pread(stopped.memory, SIGACTION_BYTES, call.scratch)
            if action != _DEFAULT:
                found.append((number, action))
    return tuple(found)


def _some_thread(stopped: Stopped) -> int:
    return stopped.pid if stopped.pid in stopped.threads else next(iter(stopped.threads))
