"""The shadow: a mirror's frozen process.

It is born as an idle stub with the program's own ids in a PID namespace and a time namespace of its own, loses
everything it has, and gets the program's mappings, vdso and threads. It stands in ptrace-stop all the time; what must
be done inside is done by batches of system calls (`agent.mirror.batch`). It dies with the agent until it is promoted
(EXITKILL).

All of it belongs to the one OS thread that made it.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import numpy as np

from agent.context.clocks import ProgramClocks
from agent.context.credentials import Credentials
from agent.context.layout import WRITE, Area, difference
from agent.errors import KernelError, RestoreError, TraceeGone
from agent.kernel import elf, procfs, ptrace, registers, wait
from agent.kernel.clone import (
    ARGUMENTS_BYTES,
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
)
from agent.kernel.libc import NR
from agent.kernel.namespaces import TimeOffsets
from agent.kernel.vm import Contents, ProcessMemory
from agent.launch.spawner import Spawner
from agent.memory.page_ranges import PAGE_SHIFT, Pages
from agent.mirror.batch import RUNNER_CODE, Batch, Blob
from agent.mirror.fdtable import DescriptorTable
from agent.mirror.remapping import ObjectId, Remapping
from agent.mirror.trampoline import ADDRESS_END, FIRST_BYTES, PAGE_BYTES, ROOM_BYTES, Span, Trampoline, find_place
from agent.tracing.stepping import next_stop, quiet_call

OPTIONS: Final = ptrace.TRACESYSGOOD | ptrace.TRACECLONE | ptrace.TRACEFORK | ptrace.EXITKILL
# A batch ends with int3; were SIGTRAP blocked too, the kernel would reset its action (force_sig_info in signal(7)'s
# terms).
BLOCKED: Final = ptrace.ALL_SIGNALS & ~(1 << (signal.SIGTRAP - 1))
_STUB_SYSCALL: Final = elf.STUB_ADDRESS + 64 + 56 + 5
_MAP_PRIVATE_ANONYMOUS_NORESERVE: Final = 0x02 | 0x20 | 0x4000
_MAP_FIXED: Final = 0x10
_MAP_FIXED_NOREPLACE: Final = 0x100000
_PROT_CODE, _PROT_DATA = 5, 3
_ARCH_MAP_VDSO_64: Final = 0x2003
_PR_TIMER_CREATE_RESTORE_IDS: Final = 77
_CODE_SEGMENT, _STACK_SEGMENT, _EFLAGS = 0x33, 0x2B, 0x202
_THREAD_FLAGS: Final = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
_FLOOR_MIN: Final = 1024
_SPARES: Final = 256
_DESCRIPTOR_MAX: Final = 0xFFFF_FFFF
_SYSCALL_CODE: Final = b"\x0f\x05"


class Shadow:
    """One mirror's process.

    pid: host pid. init: host pid of its PID namespace's process 1. number: its pid in that namespace. threads: tid in
    the namespace -> host tid. layout: the areas that are mapped now. table: the descriptor numbers in use. clocks: as
    the shadow sees them. born_with: the stub's credentials. restores_timer_ids: whether the kernel makes timers with
    chosen ids (Linux 6.15).
    """

    def __init__(self, spawner: Spawner, pid: int, init: int, number: int) -> None:
        self._spawner = spawner
        self.pid = self.leader = pid
        self.init = init
        self.number = number
        self.threads: dict[int, int] = {number: pid}
        self.layout: list[Area] = []
        self.table = DescriptorTable(_FLOOR_MIN)
        self.restores_timer_ids = False
        self._table_reaches = 0
        self._prepared: dict[str, object] = {}
        self._memory: ProcessMemory | None = None
        self._remapping = Remapping(self.table)
        self._pieces: dict[str, tuple[object, Batch]] = {}
        self._born: list[int] = []
        self._instruction: int | None = None
        self._registers = np.zeros(registers.COUNT, np.uint64)

    # ------------------------------------------------------------ birth and death

    @classmethod
    def create(
        cls,
        spawner: Spawner,
        number: int,
        layout: Sequence[Area],
        offsets: TimeOffsets | None,
        *,
        highest_descriptor: int = 0,
        network: str | None = None,
    ) -> Shadow:
        """Make the shadow of a process that has id `number` in its PID namespace, with its mappings and without
        content.

        offsets: how far its clocks shall be ahead of the agent's. highest_descriptor: of the program's. network: path
        of a network namespace; None: the agent's. Raises RestoreError, KernelError, LaunchError; nothing is left behind
        then.
        """
        # Ends of batches are awaited by SIGCHLD (see `stepping.next_stop`).
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        init = spawner.new_pid_namespace()
        try:
            # The namespace must not outlive the agent, either.
            ptrace.seize(init, ptrace.EXITKILL)
            pid = spawner.shadow(init, number, offsets, network=network)
        except BaseException:
            spawner.end_namespace(init)
            raise
        shadow = cls(spawner, pid, init, number)
        try:
            shadow._take_over_stub(layout)
            shadow.make_room_for_descriptors(highest_descriptor)
            shadow.apply_layout(layout)
        except BaseException:
            shadow.destroy()
            raise
        return shadow

    def _take_over_stub(self, layout: Sequence[Area]) -> None:
        ptrace.seize(self.pid, OPTIONS)
        ptrace.interrupt(self.pid)
        event = next_stop(self.pid, "the first stop")
        if event.exited:
            raise RestoreError("the shadow's stub died at once")
        self._memory = ProcessMemory(self.pid)
        self.clocks = ProgramClocks(self.pid)
        self.born_with = Credentials.of(procfs.status(self.pid))
        ptrace.set_signal_mask(self.pid, BLOCKED)
        spans = [(area.start, area.end) for area in layout if area.end <= ADDRESS_END]
        stub = [(mapping.start, mapping.end) for mapping in procfs.mappings(self.pid) if mapping.end <= ADDRESS_END]
        address = find_place([*spans, *stub])
        flags = _MAP_PRIVATE_ANONYMOUS_NORESERVE | _MAP_FIXED_NOREPLACE
        for start, size, protection in (
            (address, PAGE_BYTES, _PROT_CODE),
            (address + PAGE_BYTES, FIRST_BYTES - PAGE_BYTES, _PROT_DATA),
        ):
            quiet_call(self.pid, _STUB_SYSCALL, NR.MMAP, start, size, protection, flags, -1, 0)
        self.trampoline = Trampoline(address, FIRST_BYTES)
        self.write(address, RUNNER_CODE)
        self._clear_out(layout)

    def _clear_out(self, layout: Sequence[Area]) -> None:
        """Unmap all that came with the stub, and map the vdso where the program has it."""
        batch = self.batch()
        here = self.trampoline
        batch.add(NR.MUNMAP, 0, here.address, name="munmap below the trampoline")
        batch.add(NR.MUNMAP, here.end, ADDRESS_END - here.end, name="munmap above the trampoline")
        special = [area for area in layout if area.kind == "special" and area.end <= ADDRESS_END]
        if special:
            # The kernel places its pages in an order of its own, the whole beginning at the lowest address.
            start = min(area.start for area in special)
            batch.add(NR.ARCH_PRCTL, _ARCH_MAP_VDSO_64, start, name=f"vdso at {start:#x}")
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        batch.add(
            NR.PRLIMIT64, 0, resource.RLIMIT_NOFILE, struct.pack("<QQ", hard, hard), 0, name="limit of descriptors"
        )
        batch.add(NR.PRCTL, _PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0, may_fail=True)
        restore_ids = batch.add(NR.PRCTL, _PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0, may_fail=True)
        batch.run()
        self.restores_timer_ids = restore_ids.result == 0
        wanted = {(area.path, area.start, area.end) for area in special}
        mapped = {(mapping.name, mapping.start, mapping.end) for mapping in procfs.mappings(self.pid)}
        if missing := sorted(wanted - mapped, key=lambda area: area[1]):
            path, start, _ = missing[0]
            hint = "both nodes must run the same kernel"
            raise RestoreError(f"{path} of the program can't be placed at {start:#x} in the shadow", hint=hint)
        vdso = next((area for area in special if area.path == "[vdso]"), None)
        if vdso is not None:
            self._instruction = vdso.start + self.read(vdso.start, vdso.end - vdso.start).index(_SYSCALL_CODE)

    def destroy(self) -> None:
        """Kill the shadow and its PID namespace and reap both."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        # The leader can be reaped only after all other threads.
        for tid in [*(tid for tid in self.threads.values() if tid != self.pid), self.pid]:
            try:
                while not next_stop(tid, "the end").exited:
                    pass
            except TraceeGone:
                continue
        self.threads = {}
        self._close_memory()
        self._spawner.end_namespace(self.init)

    def close(self) -> None:
        """After the promotion: let go of what the agent holds of it; the namespace may outlive the agent now."""
        ptrace.interrupt(self.init)
        next_stop(self.init, "the stop of process 1")
        ptrace.detach(self.init)
        self._close_memory()

    def _close_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    @property
    def memory(self) -> ProcessMemory:
        """The shadow's memory. Raises RestoreError once it was let go."""
        if self._memory is None:
            raise RestoreError(f"shadow {self.pid} was let go")
        return self._memory

    # ------------------------------------------------------------ runner of batches

    def batch(self) -> Batch:
        """A new batch that will run in the shadow."""
        return Batch(self)

    def piece(self, key: str, value: object, build: Callable[[Batch], None]) -> Batch:
        """The rows that `build` makes of `value`; those of the last call for `key`, if `value` still is the same."""
        known = self._pieces.get(key)
        if known is None or known[1].spent or known[0] != value:
            known = value, Batch()
            build(known[1])
            self._pieces[key] = known
        return known[1]

    def changed(self, key: str, value: object) -> bool:
        """Whether what is to be prepared under `key` differs from the last time; remembers it as prepared."""
        known = key in self._prepared and self._prepared[key] == value
        self._prepared[key] = value
        return not known

    def room(self, size_bytes: int) -> int:
        """See `agent.mirror.batch.Runner`."""
        here = self.trampoline
        if size_bytes > here.room_bytes:
            more = -(-(size_bytes - here.room_bytes) // FIRST_BYTES) * FIRST_BYTES
            if here.size_bytes + more > ROOM_BYTES:
                raise RestoreError(f"a batch of {size_bytes} bytes is too large for a shadow")
            flags = _MAP_PRIVATE_ANONYMOUS_NORESERVE | _MAP_FIXED_NOREPLACE
            batch = self.batch()
            batch.add(NR.MMAP, here.end, more, _PROT_DATA, flags, -1, 0, name="more room for batches", expect=here.end)
            batch.run()
            self.trampoline = Trampoline(here.address, here.size_bytes + more)
        return self.trampoline.table

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write into the shadow's memory, whatever its protection.

        Raises KernelError (EIO: shared and read-only), TraceeGone.
        """
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self.memory.file, view, address)
                if not done:
                    raise TraceeGone(self.pid)
                view, address = view[done:], address + done
        except OSError as error:
            raise KernelError("write", f"memory of shadow {self.pid} at {address:#x}", error.errno or 0) from error

    def read(self, address: int, size_bytes: int) -> bytes:
        """Read the shadow's memory. Raises KernelError where there is none, TraceeGone."""
        try:
            data = os.pread(self.memory.file, size_bytes, address)
        except OSError as error:
            raise KernelError("read", f"memory of shadow {self.pid} at {address:#x}", error.errno or 0) from error
        if size_bytes and not data:
            raise TraceeGone(self.pid)
        if len(data) != size_bytes:
            raise RestoreError(f"memory of shadow {self.pid} at {address:#x} ends after {len(data)} bytes")
        return data

    def execute(self, starts: Mapping[int, int]) -> None:
        """See `agent.mirror.batch.Runner`. Raises TraceeGone when the shadow was killed."""
        values = self._registers
        values[:] = 0
        values[registers.RIP] = self.trampoline.address
        values[registers.ORIG_RAX] = registers.NO_CALL
        values[registers.CS], values[registers.SS] = _CODE_SEGMENT, _STACK_SEGMENT
        values[registers.EFLAGS] = _EFLAGS
        for tid, table in starts.items():
            values[registers.RBX] = table
            ptrace.set_registers(tid, values)
            ptrace.cont(tid)
        for tid in starts:
            self._await_end(tid)

    def _await_end(self, tid: int) -> None:
        while True:
            event = next_stop(tid, "a batch of system calls")
            if event.exited:
                raise TraceeGone(tid)
            if event.event in (wait.EVENT_CLONE, wait.EVENT_FORK):
                self._born.append(ptrace.event_message(tid))
                ptrace.cont(tid)
            elif event.event == 0 and event.signal == signal.SIGTRAP:
                return
            else:
                values = ptrace.get_registers(tid)
                place = f"rip {int(values[registers.RIP]):#x}, rax {int(values[registers.RAX]):#x}"
                raise RestoreError(f"a batch in shadow {self.pid} was interrupted: status {event.status:#x}, {place}")

    # ------------------------------------------------------------ memory

    def apply_layout(self, layout: Sequence[Area]) -> None:
        """Make the shadow's mappings those of `layout`; new ones have a new mapping's content. Raises RestoreError."""
        spans = [(area.start, area.end) for area in layout]
        if self.trampoline.overlaps(spans):
            self._relocate(spans)
        changes = difference(self.layout, layout)
        batch = self.batch()
        self._remapping.add(batch, changes)
        self._remapping.forget_unmapped(batch, layout)
        if len(batch):
            batch.run()
        self.layout = list(layout)

    def _relocate(self, spans: Sequence[Span]) -> None:
        """Move the trampoline to where neither the present nor the coming layout has anything."""
        old = self.trampoline
        present = [(area.start, area.end) for area in self.layout if area.end <= ADDRESS_END]
        coming = [span for span in spans if span[1] <= ADDRESS_END]
        address = find_place([*present, *coming, (old.address, old.end)])
        flags = _MAP_PRIVATE_ANONYMOUS_NORESERVE | _MAP_FIXED_NOREPLACE
        batch = self.batch()
        for start, size, protection in (
            (address, PAGE_BYTES, _PROT_CODE),
            (address + PAGE_BYTES, FIRST_BYTES - PAGE_BYTES, _PROT_DATA),
        ):
            batch.add(NR.MMAP, start, size, protection, flags, -1, 0, name="new trampoline", expect=start)
        batch.run()
        self.write(address, RUNNER_CODE)
        self.trampoline = Trampoline(address, FIRST_BYTES)
        batch = self.batch()
        batch.add(NR.MUNMAP, old.address, old.size_bytes, name="munmap of the old trampoline")
        batch.run()

    def shared_object(self, device: int, inode: int) -> int | None:
        """The shadow's descriptor of shared memory that the program has mapped, by the original's st_dev and st_ino."""
        identity: ObjectId = device, inode
        return self._remapping.object_number(identity)

    def read_pages(self, pages: Pages, out: Contents) -> Pages:
        """Read ascending page numbers into the rows of `out`; give those that could not be read."""
        return self.memory.read_pages(pages, out)

    def write_pages(self, pages: Pages, contents: Contents) -> Pages:
        """Write rows to ascending page numbers; give those that could not be written."""
        failed = self.memory.write_pages(pages, contents)
        if not len(failed):
            return failed
        # Shared memory that may only be read here: as its object belongs to the shadow alone, it can be opened up.
        areas = [area for area in self.layout if area.kind == "object" and not area.protection & WRITE]
        spans = np.array([(area.start >> PAGE_SHIFT, area.end >> PAGE_SHIFT) for area in areas], np.uint64).reshape(
            -1, 2
        )
        behind = np.searchsorted(spans[:, 0], failed, "right").astype(np.int64) - 1
        touched = [areas[index] for index in np.unique(behind[behind >= 0]).tolist()]
        self._protect(touched, WRITE)
        try:
            return self.memory.write_pages(failed, contents[np.searchsorted(pages, failed)])
        finally:
            self._protect(touched, 0)

    def _protect(self, areas: Sequence[Area], more: int) -> None:
        """Give areas their own protection and `more`."""
        batch = self.batch()
        for area in areas:
            size = area.end - area.start
            batch.add(NR.MPROTECT, area.start, size, area.protection | more, name=f"mprotect {area.start:#x}")
        if len(batch):
            batch.run()

    # ------------------------------------------------------------ threads and descriptors

    def set_threads(self, numbers: Collection[int]) -> None:
        """Make the set of threads (tids in the PID namespace) equal to `numbers`, which must hold the leader's."""
        if self.number not in numbers:
            raise RestoreError(f"the main thread of process {self.number} has ended: that can't be mirrored")
        for number in [number for number in self.threads if number not in numbers]:
            self._end_thread(self.threads.pop(number))
        missing = [number for number in numbers if number not in self.threads]
        self._clone(missing, _THREAD_FLAGS, 0)
        for number, tid in zip(missing, self._born, strict=True):
            self.threads[number] = tid
            event = next_stop(tid, "the first stop")
            if event.exited:
                raise TraceeGone(tid)
            ptrace.set_signal_mask(tid, BLOCKED)

    def add_dead_children(self, numbers: Sequence[int]) -> None:
        """Give the shadow a child for each id in its PID namespace, killed by SIGKILL and not waited for."""
        self._clone(numbers, CLONE_VM, signal.SIGCHLD)
        for tid in self._born:
            os.kill(tid, signal.SIGKILL)
            # The tracer is told first, and only then the parent.
            while not next_stop(tid, "the death of a child").exited:
                pass

    def _clone(self, numbers: Sequence[int], flags: int, exit_signal: int) -> None:
        """Make threads or processes with these ids; `_born` are their host tids. None of them ever runs."""
        batch = self.batch()
        self._born.clear()
        for number in numbers:
            # struct clone_args, and behind it the array of one tid that set_tid points at.
            words = struct.pack("<11Qi", flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 1, 0, number)
            blob = Blob(words)
            blob.point(64, blob.at(ARGUMENTS_BYTES))
            batch.add(NR.CLONE3, blob, ARGUMENTS_BYTES, name=f"clone of {number}", expect=number)
        if numbers:
            batch.run()

    def _end_thread(self, tid: int) -> None:
        batch = self.batch()
        batch.add(NR.EXIT, 0, name="end of a thread")
        compiled = batch.compile(self.trampoline.table)
        self.write(self.trampoline.table, compiled)
        try:
            self.execute({tid: self.trampoline.table})
        except TraceeGone:
            return
        raise RestoreError(f"thread {tid} of the shadow does not end")

    def make_room_for_descriptors(self, highest: int) -> None:
        """Let the kernel's table reach beyond the program's `highest` number, and move what is the shadow's own above
        it.

        To be called before there are threads: a table that several threads share grows only after an RCU grace period
        (5 ms).
        """
        if self._table_reaches > highest:
            return
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        wanted = max(_FLOOR_MIN, 2 * (highest + 1))
        floor = max(min(wanted, hard - _SPARES), highest + 1)
        batch = self.batch()
        self._remapping.renumber(self.table.move_floor(batch, floor))
        # The kernel makes its table as large as the highest number that was ever in use.
        opened = batch.add(NR.EVENTFD2, 0, 0, name="a descriptor")
        top = batch.add(NR.DUP3, opened, min(floor + _SPARES, hard) - 1, 0, name="growth of the descriptor table")
        batch.add(NR.CLOSE, top)
        batch.add(NR.CLOSE, opened)
        batch.run()
        self._table_reaches = floor

    def close_own_descriptors(self, batch: Batch) -> None:
        """A row that closes all numbers above the program's."""
        if self.table.spares:
            batch.add(NR.CLOSE_RANGE, self.table.floor, _DESCRIPTOR_MAX, 0, name="close of the shadow's descriptors")

    def drop_trampoline(self, trap_action: bytes | None) -> None:
        """Unmap the trampoline; no batch can run after this. trap_action: the program's action for SIGTRAP, if not the
        default one."""
        if self._instruction is None:
            raise RestoreError(f"process {self.number} has no vdso: a shadow of it can't leave its trampoline")
        here = self.trampoline
        if trap_action is not None:
            self.write(here.table, trap_action)
            quiet_call(
                self.leader, self._instruction, NR.RT_SIGACTION, signal.SIGTRAP, here.table, 0, ptrace.SIGMASK_BYTES
            )
        quiet_call(self.leader, self._instruction, NR.MUNMAP, here.address, here.size_bytes)
