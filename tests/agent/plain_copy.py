"""What the tests of shadows share: a program that is started, copied as a whole while it stands still, killed, and goes
on
in a shadow. Plain and slow on purpose: no dirty tracking, no stream."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.context import layout, process, signals, timers
from agent.context.clocks import ProgramClocks
from agent.context.threads import ThreadCapture
from agent.errors import TraceeGone
from agent.kernel import procfs, ptrace, registers, wait
from agent.kernel.libc import NR
from agent.kernel.vm import Contents, ProcessMemory
from agent.launch.spawn_request import Launch
from agent.launch.spawner import Spawner
from agent.memory.page_ranges import Pages
from agent.mirror import activation
from agent.mirror.activation import TimelineStep
from agent.mirror.batch import Batch
from agent.mirror.shadow import Shadow
from agent.tracing.stepping import next_stop, quiet_call
from agent.tracing.stopped import RemoteCall, Stopped
from tests.compiled import compiled
from transport.checkpoint import Records

NUMBER = 77
PROGRAMS = Path(__file__).parent / "programs"
OPTIONS_RUNNING = ptrace.TRACESYSGOOD | ptrace.TRACECLONE | ptrace.TRACEFORK
OPTIONS_SOURCE = ptrace.TRACESYSGOOD | ptrace.EXITKILL
DEADLINE_S = 20.0
_PRESENT, _SWAPPED, _FILE_PAGE = (np.uint64(1 << bit) for bit in (63, 62, 61))


def built(name: str) -> str:
    """The path of tests/agent/programs/NAME.c, compiled."""
    return str(compiled(PROGRAMS / f"{name}.c", "-O1", "-g"))


class _Call:
    def __init__(self, tid: int, instruction: int, scratch: int) -> None:
        self._tid, self._instruction, self.scratch = tid, instruction, scratch

    def __call__(self, number: int, *arguments: int) -> int:
        return quiet_call(self._tid, self._instruction, number, *arguments)


@dataclass(slots=True)
class Image:
    """A whole context: its records, layout and pages."""

    records: Records
    areas: list[layout.Area]
    pages: Pages
    contents: Contents
    highest_descriptor: int


class PlainDescriptors:
    """Standard input, output and error, which is all that these programs have."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def activate(self, shadow: Shadow, records: Records, batch: Batch) -> None:
        null = batch.add(NR.OPEN, b"/dev/null\0", os.O_RDONLY, 0)
        shadow.table.place(batch, null, 0, close_on_exec=False)
        path = os.fsencode(self._output) + b"\0"
        opened = batch.add(NR.OPEN, path, os.O_WRONLY | os.O_APPEND, 0)
        shadow.table.place(batch, opened, 1, close_on_exec=False)
        shadow.table.take(2)
        shadow.table.duplicate(batch, 1, 2, close_on_exec=False)

    def finish(self, shadow: Shadow, records: Records, batch: Batch) -> None:
        pass


@dataclass(slots=True)
class Original:
    """A running program. pid, init: host pids."""

    spawner: Spawner
    pid: int
    init: int
    threads: dict[int, int] = field(default_factory=dict)
    capture: ThreadCapture = field(default_factory=lambda: ThreadCapture(lambda tid: None))
    seized: set[int] = field(default_factory=set)

    def stop(self) -> None:
        """Let all threads stand still."""
        stopped: set[int] = set()
        while new := [tid for tid in procfs.tasks(self.pid) if tid not in stopped]:
            for tid in new:
                if tid not in self.seized:
                    ptrace.seize(tid, OPTIONS_SOURCE)
                    self.seized.add(tid)
                ptrace.interrupt(tid)
            for tid in new:
                while not (event := next_stop(tid, "a stop")).is_interrupt:
                    assert event.stopped
                    ptrace.cont(tid, event.signal if event.event == 0 else 0)
                stopped.add(tid)
        self.threads = {tid: procfs.namespace_tid(self.pid, tid) for tid in sorted(stopped)}

    def resume(self) -> None:
        for tid in self.threads:
            ptrace.cont(tid)

    @contextmanager
    def remote(self, tid: int) -> Iterator[RemoteCall]:
        vdso = procfs.vdso(self.pid)
        assert vdso is not None
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            code = os.pread(memory.fileno(), vdso.end - vdso.start, vdso.start)
            saved, mask = ptrace.get_registers(tid), ptrace.signal_mask(tid)
            scratch = (int(saved[registers.RSP]) - 128 - 4096) & ~63
            content = os.pread(memory.fileno(), 1024, scratch)
            ptrace.set_signal_mask(tid, ptrace.ALL_SIGNALS)
            try:
                yield _Call(tid, vdso.start + code.index(b"\x0f\x05"), scratch)
            finally:
                os.pwrite(memory.fileno(), content, scratch)
                ptrace.set_registers(tid, saved)
                ptrace.set_signal_mask(tid, mask)

    def image(self, previous: Records | None = None, *, refresh: bool = True) -> Image:
        """Copy everything of the stopped program."""
        memory = ProcessMemory(self.pid)
        pidfd = os.pidfd_open(self.pid)
        try:
            stopped = Stopped(
                self.pid, self.threads, memory.file, pidfd, self.remote, previous or {}, dying=False, refresh=refresh
            )
            clocks = ProgramClocks(self.pid)
            areas = areas_of(self.pid)
            records = {
                **process.capture(stopped, clocks),
                **signals.capture(stopped),
                **self.capture.capture(stopped),
                **timers.TimerCapture(clocks).capture(stopped),
                layout.KEY: layout.encode(areas),
            }
            pages = present_pages(self.pid, areas)
            contents = np.zeros((len(pages), 512), np.uint64)
            failed = memory.read_pages(pages, contents)
            assert not len(failed), failed
            return Image(records, areas, pages, contents, max(procfs.descriptors(self.pid)))
        finally:
            memory.close()
            os.close(pidfd)

    def kill(self) -> None:
        """Kill it and its PID namespace."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        # Threads that are held in their death must be let go before any of them can be reaped.
        for tid in self.seized:
            ptrace.raw(ptrace.CONT, tid, 0, 0)
        for tid in [*(tid for tid in self.seized if tid != self.pid), self.pid]:
            try:
                while not next_stop(tid, "the end").exited:
                    ptrace.raw(ptrace.CONT, tid, 0, 0)
            except TraceeGone:
                continue
        self.spawner.end_namespace(self.init)


def areas_of(pid: int) -> list[layout.Area]:
    """The layout of a process as it is now."""
    flags = procfs.vm_flags(pid)
    found = []
    for line in procfs.read_bytes(pid, "maps").splitlines():
        area = layout.parse_line(line)
        own = tuple(sorted(flags.get(area.start, frozenset()) & layout.FLAGS))
        size = 0
        if area.kind == "object":
            size = os.stat(f"/proc/{pid}/map_files/{area.start:x}-{area.end:x}").st_size
        found.append(layout.parse_line(line, size, own))
    return found


def present_pages(pid: int, areas: list[layout.Area]) -> Pages:
    """The pages of a process that a copy of it must carry."""
    found = []
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        for area in areas:
            if area.kind == "special" or (area.shared and area.kind != "object"):
                continue
            first, count = area.start >> 12, (area.end - area.start) >> 12
            entries = np.frombuffer(os.pread(file.fileno(), count * 8, first * 8), np.uint64)
            there = (entries & (_PRESENT | _SWAPPED)) != 0
            if area.kind == "object":
                there[:] = True
            elif area.inode and not area.pathless_copy:
                there &= (entries & _FILE_PAGE) == 0
            found.append(np.flatnonzero(there).astype(np.uint64) + np.uint64(first))
    return np.concatenate(found)


def launch(spawner: Spawner, path: str, *arguments: str, output: Path, **options: Any) -> Original:
    """Start a program as process NUMBER of a PID namespace of its own."""
    init = spawner.new_pid_namespace()
    try:
        order = Launch(path, (path, *arguments), {"PATH": "/usr/bin:/bin"}, output=str(output))
        pid = spawner.program(init, NUMBER, replace(order, **options))
    except BaseException:
        spawner.end_namespace(init)
        raise
    return Original(spawner, pid, init)


def build(spawner: Spawner, image: Image) -> Shadow:
    """A shadow that holds the whole image and is prepared."""
    offsets = process.shadow_clocks(image.records)
    shadow = Shadow.create(spawner, NUMBER, image.areas, offsets, highest_descriptor=image.highest_descriptor)
    try:
        failed = shadow.write_pages(image.pages, image.contents)
        assert not len(failed), failed
        activation.prepare(shadow, image.records, highest_descriptor=image.highest_descriptor)
    except BaseException:
        shadow.destroy()
        raise
    return shadow


def take_over(shadow: Shadow, image: Image, output: Path) -> list[TimelineStep]:
    """Let the shadow go on."""
    rooms = PlainDescriptors(output)
    timeline = activation.make_ready(shadow, image.records, rooms)
    return activation.go_on(
        shadow,
        image.records,
        rooms,
        timeline,
        claim_address=lambda: None,
        announce=lambda: None,
        options=OPTIONS_RUNNING,
    )


def pump(until: Callable[[dict[int, int]], bool]) -> dict[int, int]:
    """Carry signals to traced threads until something is true of the raw exit statuses (by host tid); gives them."""
    ended: dict[int, int] = {}
    end_s = time.monotonic() + DEADLINE_S
    while not until(ended):
        assert time.monotonic() < end_s, f"nothing happened; ended: {ended}"
        event = wait.poll_any()
        if event is None:
            wait.await_child_signal(0.01)
        elif event.exited:
            ended[event.tid] = event.status
        else:
            try:
                ptrace.cont(
                    event.tid, event.signal if event.event == 0 and event.signal != signal.SIGTRAP | 0x80 else 0
                )
            except TraceeGone:
                continue
    return ended


def pump_for_turns(turns: int) -> None:
    """Carry signals for a while, so that a program really runs."""
    left = [turns]

    def over(_: dict[int, int]) -> bool:
        left[0] -= 1
        return left[0] < 0

    pump(over)


def await_line(output: Path, *words: str) -> str:
    """Wait until the output has a line that begins with one of `words`; gives that line."""
    found: list[str] = []

    def there(_: dict[int, int]) -> bool:
        found[:] = [line for line in output.read_text().splitlines() if line.startswith(words)]
        return bool(found)

    pump(there)
    return found[-1]


def siginfo(number: int, code: int = 0, value: int = 0) -> bytes:
    """A siginfo_t as rt_sigqueueinfo(2) takes it."""
    return struct.pack("<iii4xiiQ", number, 0, code, 0, 0, value).ljust(128, b"\0")
