"""System calls inside the program: a stopped thread lends its registers, and gets everything back.

The calls are made with PTRACE_SYSCALL at the vdso's own `syscall` instruction. Unlike a single step this leaves no trap
flag behind if the tracer dies, and forces no SIGTRAP, for which the kernel would throw away a handler that ignores it.
A program with borrowed registers must not run on, so that the kernel is told to kill it if the agent dies now
(PTRACE_O_EXITKILL), and only now.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType

from agent.errors import CaptureError, KernelError, TraceeGone
from agent.kernel import procfs, ptrace, registers, wait
from agent.kernel.lent_priority import LentPriority
from agent.kernel.libc import NR, signed
from agent.kernel.wait import StopEvent

CALL_DEADLINE_S = 1.0
SCRATCH_BYTES = 1024

_SYSCALL_INSTRUCTION = b"\x0f\x05"
_SYSCALL_STOP = 0x85
_RECOVERY_S = 1.0
_NAP_S = 0.001
_PROMPT_S = 0.000_1
"""A thread that has a processor makes its next step sooner than that."""
_PAGE_BYTES = 1 << procfs.PAGE_SHIFT
# Between the red zone and the scratch memory `agent.tracing.restart` may have put a timespec.
_SCRATCH_BELOW_STACK = registers.RED_ZONE_BYTES + 128 + SCRATCH_BYTES
_EPERM, _EINVAL = 1, 22


def syscall_instruction(pid: int, memory: int) -> int:
    """The address of a `syscall` instruction in the program's vdso. Raises CaptureError when there is none."""
    mapping = procfs.vdso(pid)
    if mapping is not None:
        code = os.pread(memory, mapping.end - mapping.start, mapping.start)
        offset = code.find(_SYSCALL_INSTRUCTION)
        if offset >= 0:
            return mapping.start + offset
    raise CaptureError(f"process {pid} has no vdso with a system call in it", hint="start it without vdso=0")


class Remote:
    """A scope in which `remote(number, *arguments)` makes a system call in thread `tid`, which must be stopped.

    The result is the kernel's: a negative errno is not raised. Leaving the scope restores registers, signal mask,
    scratch memory and ptrace options. Raises TraceeGone when the thread dies meanwhile; CaptureError when a call does
    not end within `deadline_s`, and if the thread can't even be taken out of the call, `stuck` is true: it must be
    restored (`restore`) at its next stop, whenever that comes.

    scratch: the address of SCRATCH_BYTES bytes of the thread's stack which may be written to; restored afterwards.
    memory: descriptor of /proc/PID/mem, writable. instruction: see `syscall_instruction`. options: the thread's own
    ptrace options, with TRACESYSGOOD. on_trouble: told of this scope, and of the event of the thread's death if there
    was one, when the thread dies or is stuck.
    """

    def __init__(
        self,
        tid: int,
        *,
        memory: int,
        instruction: int,
        options: int,
        on_trouble: Callable[[Remote, StopEvent | None], None],
        priority: LentPriority,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> None:
        self.tid = tid
        self.scratch = 0
        self.stuck = False
        self._memory = memory
        self._instruction = instruction
        self._options = options
        self._on_trouble = on_trouble
        self._priority = priority
        self._deadline_s = deadline_s
        self._saved_scratch = b""
        self._stop_signals: list[int] = []

    def __enter__(self) -> Remote:
        self.registers = ptrace.get_registers(self.tid)
        self._mask = ptrace.signal_mask(self.tid)
        self._working = self.registers.copy()
        self._find_scratch()
        self._kill_with_agent()
        ptrace.set_signal_mask(self.tid, ptrace.ALL_SIGNALS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A write would make the page count as changed.
        if self.read(SCRATCH_BYTES) != self._saved_scratch:
            os.pwrite(self._memory, self._saved_scratch, self.scratch)
        try:
            if not self.stuck and not isinstance(error, TraceeGone):
                self.restore()
        finally:
            self._priority.take_back(self.tid)

    def restore(self) -> None:
        """Give the stopped thread back what it has lent; it stays stopped."""
        self.stuck = False
        ptrace.set_registers(self.tid, self.registers)
        ptrace.set_signal_mask(self.tid, self._mask)
        # Out of the system call stop, into one from which the program may safely run on without a tracer.
        self._step(ptrace.CONT)
        ptrace.set_options(self.tid, self._options)
        for signal in self._stop_signals:
            os.kill(self.tid, signal)
        self._stop_signals.clear()

    def _find_scratch(self) -> None:
        stack = int(self.registers[registers.RSP])
        below = (stack - _SCRATCH_BELOW_STACK) & ~63
        # Where the stack ends right below: its live part serves too, as nobody runs before it is restored.
        for address in (below, stack & ~(_PAGE_BYTES - 1)):
            try:
                self._saved_scratch = os.pread(self._memory, SCRATCH_BYTES, address)
            except OSError:
                continue
            self.scratch = address
            return
        raise CaptureError(f"thread {self.tid} has no stack that could be written to")

    def write(self, content: bytes, offset: int = 0) -> int:
        """Put `content` into the scratch memory; gives its address."""
        if offset + len(content) > SCRATCH_BYTES:
            raise ValueError(f"scratch memory has {SCRATCH_BYTES} bytes")
        address = self.scratch + offset
        os.pwrite(self._memory, content, address)
        return address

    def read(self, length: int, offset: int = 0) -> bytes:
        """What the scratch memory holds now."""
        return os.pread(self._memory, length, self.scratch + offset)

    def __call__(self, number: int, *arguments: int) -> int:
        """Make one system call; gives its result, or the negative errno."""
        working = self._working
        working[registers.RIP] = self._instruction
        working[registers.RAX] = number
        working[registers.ORIG_RAX] = registers.NO_CALL
        for register, argument in zip(registers.ARGUMENTS, arguments, strict=False):
            working[register] = registers.word(argument)
        ptrace.set_registers(self.tid, working)
        name = NR.name(number)
        for _ in ("entry", "exit"):
            self._step(ptrace.SYSCALL, name)
        return signed(ptrace.get_registers(self.tid)[registers.RAX])

    def _kill_with_agent(self) -> None:
        # A program under seccomp would be killed for a call that it may not make itself.
        options = self._options | ptrace.EXITKILL
        try:
            ptrace.set_options(self.tid, options | ptrace.SUSPEND_SECCOMP)
        except KernelError as error:
            if error.errno not in (_EPERM, _EINVAL):
                raise
            ptrace.set_options(self.tid, options)

    def _step(self, request: int, doing: str = "return") -> None:
        """Let the thread go to its next stop: of the system call (SYSCALL), or the one asked for (CONT)."""
        calling = request == ptrace.SYSCALL
        if not calling:
            ptrace.interrupt(self.tid)
        while True:
            # Who was killed meanwhile stands on its way out already, and would be let go from there, unheld.
            event = wait.poll(self.tid)
            if event is None:
                if ptrace.raw(request, self.tid, 0, 0) == -1:
                    raise self._trouble(None)
                event = self._wait(self._deadline_s)
            if event is None:
                self._take_back(doing)
            elif event.exited or event.event == wait.EVENT_EXIT:
                raise self._trouble(event)
            elif event.signal == _SYSCALL_STOP:
                if calling:
                    return
            elif event.event == wait.EVENT_STOP:
                if not calling:
                    return
            elif event.is_signal_delivery:
                # SIGSTOP alone can't be blocked: it is sent again when the thread is itself again.
                self._stop_signals.append(event.signal)

    def _wait(self, timeout_s: float) -> StopEvent | None:
        end_s = time.monotonic() + timeout_s
        nap_s = _PROMPT_S
        while (event := wait.poll(self.tid)) is None:
            if time.monotonic() >= end_s:
                return None
            if not wait.await_child_signal(nap_s):
                self._priority.lend(self.tid)
                nap_s = _NAP_S
        return event

    def _take_back(self, doing: str) -> None:
        """The call does not end (the program is frozen, or the call blocks): take the thread out of it."""
        ptrace.interrupt(self.tid)
        event = self._wait(_RECOVERY_S)
        if event is None:
            self.stuck = True
            self._on_trouble(self, None)
        elif event.exited or event.event == wait.EVENT_EXIT:
            raise self._trouble(event)
        raise CaptureError(
            f"an injected {doing} in thread {self.tid} did not end within {self._deadline_s:g} s",
            hint="is the program frozen (cgroup.freeze)?",
        )

    def _trouble(self, event: StopEvent | None) -> TraceeGone:
        self._on_trouble(self, event)
        return TraceeGone(self.tid)
