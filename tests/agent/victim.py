"""Real programs under a tracker without a tracer: they lend a userfaultfd, and SIGSTOP stands for the stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.kernel.pidfd import get_descriptor, open_pidfd
from agent.kernel.userfaultfd import Userfaultfd
from tests.compiled import compiled

SOURCES: Final = Path(__file__).parent.parent / "victims" / "memory"
_LENT: Final = 200


def build(source: str, *options: str) -> Path:
    """Compile one of the memory victims; gives the path of what was built."""
    return compiled(SOURCES / source, "-O1", *options)


class Victim:
    """A running program. `uffd` may be taken once."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid

    def take_uffd(self) -> Userfaultfd:
        """The userfaultfd that it lends."""
        pidfd = open_pidfd(self.pid)
        try:
            return Userfaultfd(get_descriptor(pidfd, _LENT))
        finally:
            os.close(pidfd)

    def stop(self) -> None:
        """All threads stand still when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise AssertionError(f"the victim ended: {status:#x}")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Puppet(Victim):
    """A victim that does one thing at a time, when it is told to."""

    def tell(self, what: str, *numbers: int) -> int:
        """One command of puppet.c; gives its answer, which must be no error."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(" ".join((what, *map(str, numbers))).encode() + b"\n")
        process.stdin.flush()
        answer = int(process.stdout.readline())
        assert not -4096 < answer < 0, f"{what} {numbers}: {os.strerror(-answer)}"
        return answer


@contextmanager
def running(command: Sequence[str], directory: Path, *, ready: bytes | None = b"ready\n") -> Iterator[Puppet]:
    """Start a program with the lender preloaded, wait for its `ready` line, and kill it in the end."""
    lender = build("lend_uffd.c", "-shared", "-fPIC")
    environment = {"LD_PRELOAD": str(lender), "PATH": os.environ["PATH"], "LC_ALL": "C"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=directory)
    try:
        assert process.stdout is not None
        if ready is not None:
            for line in process.stdout:
                if ready in line:
                    break
            else:
                raise AssertionError(f"{command[0]} ended before it was ready")
        yield Puppet(process)
    finally:
        process.kill()
        process.communicate()


PYTHON: Final = os.path.join(sysconfig.get_config_var("BINDIR"), "python3")
