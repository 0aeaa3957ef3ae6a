"""Small C programs, built once and run under a tracer, for the tests of the rooms that trace."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import CheckpointAbandoned
from agent.kernel import registers
from agent.kernel.libc import NR
from agent.tracing.program_event import Exited, ProgramEvent
from agent.tracing.tracee import Tracee
from tests.compiled import compiled

SOURCES = Path(__file__).parent / "programs"
STOP_S = 5.0
PATIENCE_S = 60.0


def built(name: str) -> Path:
    """Compile `programs/NAME.c`; gives the executable."""
    return compiled(SOURCES / f"{name}.c", "-O2")


class Running:
    """A program that has said "ready", and its tracee. The tests' own thread is the tracer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self.pid = process.pid
        self.input = process.stdin
        self._output = process.stdout.fileno()
        self._pending = b""
        self.events: list[ProgramEvent] = []
        self.tracee = Tracee(process.pid)

    def seize(self) -> Tracee:
        self.tracee.seize()
        return self.tracee

    def go(self, line: bytes = b"\n") -> None:
        """Let it do what it is for."""
        self.input.write(line)
        self.input.flush()

    def pump(self) -> None:
        self.events += self.tracee.pump()

    def await_line(self, *, every_s: float = 0.01, do: Callable[[], object] | None = None) -> str:
        """The next line of its output; meanwhile its events are handled, and `do` is called again and again."""
        end_s = time.monotonic() + PATIENCE_S
        while b"\n" not in self._pending:
            assert time.monotonic() < end_s, "no line came"
            self.pump()
            if do is not None:
                do()
            if select.select([self._output], [], [], every_s)[0]:
                content = os.read(self._output, 65536)
                if not content:
                    raise AssertionError(f"the program ended: {self.events}")
                self._pending += content
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def await_event(self, kind: type[ProgramEvent]) -> ProgramEvent:
        """The first event of a kind, handled or yet to come."""
        end_s = time.monotonic() + PATIENCE_S
        while True:
            self.pump()
            for event in self.events:
                if isinstance(event, kind):
                    return event
            assert time.monotonic() < end_s, f"no {kind.__name__} came"
            signal.sigtimedwait({signal.SIGCHLD}, 0.05)

    def stop(self) -> None:
        """Bring it to a stand."""
        self.tracee.stop(time.monotonic() + STOP_S)

    def stop_asleep(self) -> None:
        """Stop "deaths" where it waits: its leader for a line, all others for a signal. Born a moment ago, they may not
        have come to that yet."""
        while True:
            self.stop()
            leader, *others = self.tracee.block.registers[:, registers.ORIG_RAX].tolist()
            if leader == NR.READ and set(others) == {NR.PAUSE}:
                return
            self.tracee.resume()

    def stop_and_go(self) -> bool:
        """One stop of the whole program; False if it was abandoned."""
        try:
            self.stop()
        except CheckpointAbandoned:
            return False
        self.tracee.resume()
        return True

    def end(self) -> None:
        if self.tracee.ended or any(isinstance(event, Exited) for event in self.events):
            return
        os.kill(self.pid, signal.SIGKILL)
        end_s = time.monotonic() + PATIENCE_S
        while not self.tracee.ended and time.monotonic() < end_s:
            self.pump()
            self.tracee.release_dying()
            if not self.tracee.attached:
                # Never seized, or let go.
                try:
                    os.waitpid(self.pid, 0)
                except ChildProcessError:
                    pass
                return
            signal.sigtimedwait({signal.SIGCHLD}, 0.01)


@contextmanager
def running(name: str, *arguments: str, seized: bool = True) -> Iterator[Running]:
    """Run one of the programs until the block ends, SIGCHLD being blocked as in the agent."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    process = subprocess.Popen(
        [built(name), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    program = Running(process)
    try:
        if program.await_line() != "ready":
            raise AssertionError("the program is not ready")
        if seized:
            program.seize()
        yield program
    finally:
        program.end()
        program.tracee.close()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass
        # Reaped by the tracee: Popen must not complain that it still runs.
        process.returncode = 0
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
