"""Victims (tests/victims) that are taken over, again and again, and judge themselves at the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from agent.context import descriptors, layout
from agent.context.descriptors import DescriptorCapture
from agent.context.kind import RuleFor
from agent.kernel import procfs, wait
from agent.kernel.vm import ProcessMemory
from agent.launch.spawner import Spawner
from agent.mirror import activation
from agent.mirror.activation import TimelineStep
from agent.mirror.shadow import Shadow
from agent.mirror.takeover import trace
from agent.network.restored_sockets import RestoredSockets
from agent.primary.context_capture import ContextCapture
from agent.primary.socket_holder import SocketHolder
from agent.tracing.program_event import Dying, Exited
from agent.tracing.stopped import Stopped
from agent.tracing.tracee import Tracee
from tests.agent.plain_copy import (
    DEADLINE_S,
    OPTIONS_RUNNING,
    Image,
    Original,
    areas_of,
    await_line,
    build,
    launch,
    present_pages,
)
from tests.compiled import compiled
from transport.checkpoint import Records

VICTIMS: Final = Path(__file__).parent.parent / "victims"


def victim(name: str) -> str:
    """The path of tests/victims/NAME.c, compiled."""
    return str(compiled(VICTIMS / f"{name}.c", "-O1", "-g"))


def local(path: str) -> str | None:
    """The rule for every file that a victim writes."""
    return "local"


@dataclass
class Subject:
    """A victim that runs. output: where it says READY and its verdict. go: the file that tells it to judge."""

    spawner: Spawner
    running: Original
    output: Path
    go: Path
    rule_for: RuleFor = local
    timelines: list[list[TimelineStep]] = field(default_factory=list)

    def image(self) -> Image:
        """Stop it and copy everything, descriptors too."""
        original = self.running
        original.stop()
        image = original.image()
        capture = DescriptorCapture(original.pid, self.rule_for)
        memory, pidfd = ProcessMemory(original.pid), os.pidfd_open(original.pid)
        try:
            stopped = Stopped(original.pid, original.threads, memory.file, pidfd, original.remote)
            found = capture.capture(stopped)
            stopped.previous = found
            again = capture.capture(stopped)
            changed = [key for key in found if found[key] != again.get(key)]
            # Timers do not stand still, nor do those of TCP; all else must give the same bytes again.
            assert [key for key in changed if not key.startswith(("ofd/timerfd:", "ofd/tcp:"))] == []
            image.records.update(found)
            return image
        finally:
            capture.close()
            memory.close()
            os.close(pidfd)

    def take_over(self) -> None:
        """Kill it; its shadow goes on."""
        original = self.running
        image = self.image()
        shadow = build(self.spawner, image)
        with _sockets_held(original.pid, image.records):
            original.kill()
        self._go_on(shadow, image)

    def take_over_from_last_gasp(self) -> None:
        """Kill it while it runs; its shadow goes on from what is read as it dies."""
        original = self.running
        tracee = trace(original.pid)
        capture = ContextCapture(tracee, self.rule_for)
        try:
            tracee.stop(time.monotonic() + DEADLINE_S)
            before = capture.capture({})
            tracee.resume()
            os.kill(original.pid, signal.SIGKILL)
            _await(tracee, Dying)
            tracee.read_dying()
            image = _with_memory(original.pid, capture.capture(before, dying=True))
            with _sockets_held(original.pid, image.records):
                tracee.release_dying()
                _await(tracee, Exited)
        finally:
            capture.close()
            tracee.close()
        self.spawner.end_namespace(original.init)
        self._go_on(build(self.spawner, image), image)

    def _go_on(self, shadow: Shadow, image: Image) -> None:
        pidfd = os.pidfd_open(shadow.pid)
        sockets = RestoredSockets(pidfd, exact=True)
        try:
            descriptors.prepare(shadow, image.records)
            timeline = activation.make_ready(shadow, image.records, descriptors)
            steps = activation.go_on(
                shadow,
                image.records,
                descriptors,
                timeline,
                claim_address=lambda: sockets.configure(image.records),
                announce=sockets.finish,
                options=OPTIONS_RUNNING,
            )
        except BaseException:
            shadow.destroy()
            raise
        finally:
            os.close(pidfd)
        assert sockets.failed == [], sockets.failed
        self.timelines.append(steps)
        shadow.close()
        self.running = Original(self.spawner, shadow.pid, shadow.init, seized=set(shadow.threads.values()))

    def verdict(self, pump: Callable[[], object] | None = None) -> str:
        """Let it judge; gives "PASS", or its last words.

        pump: carries signals to it, where its tracer is not the plain one.
        """
        self.go.touch()
        if pump is None:
            return await_line(self.output, "PASS", "FAIL")
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            pump()
            found = [line for line in self.output.read_text().splitlines() if line.startswith(("PASS", "FAIL"))]
            if found:
                return found[-1]
            wait.await_child_signal(0.01)
        return "no verdict"


@contextmanager
def _sockets_held(pid: int, records: Records) -> Iterator[None]:
    """What dies within the block says nothing to its peers."""
    holder, pidfd = SocketHolder(), os.pidfd_open(pid)
    try:
        holder.take(pidfd, records)
        yield
        holder.release_silently()
    finally:
        os.close(pidfd)


def _with_memory(pid: int, records: Records) -> Image:
    """An image of a program whose records have been read, but for its memory."""
    memory = ProcessMemory(pid)
    try:
        areas = areas_of(pid)
        pages = present_pages(pid, areas)
        contents = np.zeros((len(pages), 512), np.uint64)
        failed = memory.read_pages(pages, contents)
        assert not len(failed), failed
        records[layout.KEY] = layout.encode(areas)
        return Image(records, areas, pages, contents, max(procfs.descriptors(pid)))
    finally:
        memory.close()


def _await(tracee: Tracee, kind: type[Dying] | type[Exited]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not any(isinstance(event, kind) for event in tracee.pump()):
        assert time.monotonic() < end_s, f"no {kind.__name__}"
        wait.await_child_signal(0.01)


@contextmanager
def subject(spawner: Spawner, name: str, place: Path, rule_for: RuleFor = local) -> Iterator[Subject]:
    """Compile and start a victim, and wait until it is ready; whatever is left of it is killed in the end.

    place: a directory that everybody may read, with a file `output` in it.
    """
    own, output, go = place / "own", place / "output", place / "go"
    own.mkdir()
    own.chmod(0o777)  # a victim may become another user
    started = launch(spawner, victim(name), str(go), str(own), output=output)
    running = Subject(spawner, started, output, go, rule_for)
    try:
        await_line(output, "READY", "FAIL")
        yield running
    finally:
        original = running.running
        if os.path.exists(f"/proc/{original.pid}"):
            original.seized.update(procfs.tasks(original.pid))  # those that were born since
        original.kill()
