"""The programs with structures, compiled as each test needs them, and run."""

from __future__ import annotations

import functools
import hashlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.agent.traced import Running
from tests.compiled import directory

SOURCES = Path(__file__).parent.parent.parent / "victims" / "structures"


@functools.cache
def built(*arguments: str, name: str = "") -> Path:
    """What gcc (g++ for *.cc) makes of sources and options, once in a run; called as its first source, or `name`."""
    sources = [one for one in arguments if one.endswith((".c", ".cc"))]
    compiler = shutil.which("g++" if sources[0].endswith(".cc") else "gcc")
    assert compiler is not None, "these tests need a C and a C++ compiler"
    # By digest: what is written to one of these files (strip) must not change another test's.
    place = directory() / ("structures-" + hashlib.sha256("\0".join((*arguments, name)).encode()).hexdigest()[:16])
    place.mkdir(exist_ok=True)
    target = place / (name or Path(sources[0]).stem)
    words = [str(SOURCES / one) if one in sources else one for one in arguments]
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(target), *words], check=True)
    return target


class Victim:
    """A running program that answers each line of its input with one of its output."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def tell(self, line: str) -> str:
        """Its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip()


@contextmanager
def running(program: Path, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[Victim]:
    """Run it until the block ends."""
    command = [str(program), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Victim(process)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def traced(program: Path, *arguments: str) -> Iterator[Running]:
    """Run it, seized by this thread, until the block ends; one at a time, for the events of all come to all."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    command = [str(program), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    found = Running(process)
    try:
        assert found.await_line() == "ready"
        found.seize()
        yield found
    finally:
        found.end()
        found.tracee.close()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
        # Reaped by the tracee: Popen must not complain that it still runs.
        process.returncode = 0
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def ask(program: Running, line: str) -> str:
    """The answer of a traced program."""
    program.go(line.encode() + b"\n")
    return program.await_line()
