"""Daemons as they are on machines, `kagemusha node`, all on the loopback; in the end nothing of them is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.fencing.lease_file import LeaseFile
from tests.cluster.cluster_of import free_ports
from transport.pki import Authority

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0


class Daemon:
    """One daemon, and what it says on its standard error."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it said before is forgotten."""
        words = [sys.executable, "-m", "kagemusha", "node", "--config", str(self.directory / "node.toml")]
        self.said = ""
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT
        )

    def until_it_says(self, words: str) -> str:
        """Wait for a line with these words; gives the line."""
        limit_s = time.monotonic() + DEADLINE_S
        while (line := self._line_with(words)) is None:
            if time.monotonic() > limit_s or not self.read(limit_s):
                raise AssertionError(f"it does not say {words!r}: {self.said}")
        return line

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; gives the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        assert self._process is not None
        limit_s = time.monotonic() + DEADLINE_S
        while self.read(limit_s):
            pass
        code = self._process.wait(DEADLINE_S)
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._process = None
        return code

    def close(self) -> None:
        """Leave nothing of it."""
        if self._process is not None:
            self.end(signal.SIGKILL)
        leases = self.directory / "run" / "leases"
        if leases.exists() and (pid := LeaseFile(leases).watchdog_pid):
            os.kill(pid, signal.SIGKILL)

    def _line_with(self, words: str) -> str | None:
        return next((line for line in self.said.splitlines() if words in line), None)

    def fileno(self) -> int:
        """Where what it says is read."""
        assert self._process is not None
        assert self._process.stderr is not None
        return self._process.stderr.fileno()

    def read(self, limit_s: float) -> bool:
        """Read some more; False at the end of what it says, or when there is nothing until then."""
        if not select.select([self], [], [], max(limit_s - time.monotonic(), 0.0))[0]:
            return False
        data = os.read(self.fileno(), 1 << 16)
        self.said += data.decode()
        return bool(data)


def until_one_says(words: str, *daemons: Daemon) -> None:
    """Wait until one of them, whoever it is, has said a line with these words."""
    limit_s = time.monotonic() + DEADLINE_S
    while not any(words in daemon.said for daemon in daemons):
        ready = select.select(daemons, [], [], max(limit_s - time.monotonic(), 0.0))[0]
        if not ready or not all(daemon.read(limit_s) for daemon in ready):
            raise AssertionError(f"none says {words!r}: {[daemon.said for daemon in daemons]}")


class Loopback:
    """Some nodes of one cluster. authority: of their certificates."""

    def __init__(self, directory: Path, names: tuple[str, ...]) -> None:
        self.directory = directory
        self.authority = Authority.create("loopback")
        ports = iter(free_ports(3 * len(names)))
        keys = ("address", "raft", "admin")
        self._nodes = "".join(
            f'[[nodes]]\nid = "{name}"\n' + "".join(f'{key} = "127.0.0.1:{next(ports)}"\n' for key in keys)
            for name in names
        )
        self._daemons: list[Daemon] = []

    def furnish(self, name: str, place: str = "", authority: Authority | None = None) -> Daemon:
        """A node with all it needs, in a directory of its own. authority: if its certificate is of another one."""
        own = self.directory / (place or name)
        (authority or self.authority).issue(name).save(own / "pki")
        (own / "node.toml").write_text(
            f'[node]\nid = "{name}"\ndata = "{own}/data"\nrun = "{own}/run"\npki = "{own}/pki"\n'
            f'[cluster]\nid = "kgm-{os.getpid()}"\n[api]\ntokens = "{own}/tokens.toml"\n{self._nodes}'
        )
        self._daemons.append(Daemon(own))
        return self._daemons[-1]

    def close(self) -> None:
        """End them all."""
        for daemon in self._daemons:
            daemon.close()


@contextmanager
def loopback(directory: Path, *names: str) -> Iterator[Loopback]:
    """A cluster of these nodes, none of which runs yet."""
    made = Loopback(directory, names)
    try:
        yield made
    finally:
        made.close()
