"""A redis-server and its replica, on Unix sockets and a loopback port: what mirrored structures are measured beside."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


class RedisPair:
    """Both servers, and the program's connection to the first."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._processes: list[subprocess.Popen[bytes]] = []
        for name, more in (("first", ["--port", str(port)]), ("second", ["--port", "0"])):
            (directory / name).mkdir()
            command = ["redis-server", "--bind", "127.0.0.1", "--unixsocket", str(directory / name / "socket")]
            command += ["--save", "", "--dir", str(directory / name), *more]
            command += ["--replicaof", "127.0.0.1", str(port)] if name == "second" else []
            command += ["--client-output-buffer-limit", "replica", "0", "0", "0"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            self._processes.append(process)
            if process.stdout is None or not any(b"eady to accept" in line for line in process.stdout):
                self.stop()
                raise SystemExit("redis-server did not start")
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(directory / "first" / "socket"))
        self._answers = self._connection.makefile("rb")

    def ask(self, commands: bytes, count: int) -> None:
        """Send so many commands that are answered with one line each, and read all answers."""
        self._connection.sendall(commands)
        for _ in range(count):
            self._answers.readline()

    def follow(self) -> None:
        """Return when the replica has everything."""
        if not self.wait():
            raise SystemExit("the replica does not follow")

    def wait(self) -> int:
        """Return how many replicas have everything."""
        self._connection.sendall(b"WAIT 1 30000\r\n")
        return int(self._answers.readline()[1:])

    def sent_bytes(self) -> int:
        """Return how many bytes the first has written for its replica, ever."""
        self._connection.sendall(b"INFO replication\r\n")
        size = int(self._answers.readline()[1:])
        text = self._answers.read(size + 2).decode()
        return int(next(line for line in text.splitlines() if line.startswith("master_repl_offset:")).split(":")[1])

    def stop(self) -> None:
        """End both."""
        for process in self._processes:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def redis_pair() -> Iterator[RedisPair]:
    """A pair for as long as the block."""
    with tempfile.TemporaryDirectory(prefix="kgm-bench") as directory:
        pair = RedisPair(Path(directory))
        try:
            yield pair
        finally:
            pair.stop()
