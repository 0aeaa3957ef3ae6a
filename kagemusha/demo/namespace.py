"""A network namespace by name, and the processes that live in it.

Every process of a demo node lives in the node's network namespace, so "every process of this node" is a question with
an exact answer, and nothing is ever killed by its name.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from kagemusha.demo.errors import DemoError

NAMED_NAMESPACES = Path("/run/netns")
_FREEZER = Path("/sys/fs/cgroup/freezer")


def run(*argv: str, stdin: str = "") -> None:
    """Run a command of the system to its end; DemoError with its own words if it fails or is not installed."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise DemoError(f"the command {argv[0]} is not installed", hint="install iproute2, util-linux") from error
    if done.returncode:
        complaint = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise DemoError(f"{' '.join(argv)}: {complaint}", hint="the demo needs root and CAP_SYS_ADMIN, CAP_NET_ADMIN")


class NetworkNamespace:
    """A network namespace that `ip netns` knows by `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = NAMED_NAMESPACES / name

    @classmethod
    def create(cls, name: str) -> NetworkNamespace:
        """Make it, with its loopback up."""
        run("ip", "netns", "add", name)
        namespace = cls(name)
        namespace.ip("link set lo up")
        return namespace

    def ip(self, *lines: str) -> None:
        """Run lines of ip(8) inside the namespace; DemoError at the first that fails."""
        run("ip", "-n", self.name, "-batch", "-", stdin="\n".join(lines) + "\n")

    def processes(self) -> list[int]:
        """The pids (this process' view) that live in the namespace. Zombies have left it."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            return []
        return [pid for pid in _all_pids() if _network_inode(pid) == inode]

    def kill_all(self, deadline_s: float = 10.0) -> int:
        """SIGKILL every process in the namespace, frozen ones too, until there is none; returns how many were killed.

        Each is held by a pidfd and looked at again before the signal, so that a reused pid is never hit.
        """
        limit, killed = time.monotonic() + deadline_s, 0
        inode = self.path.stat().st_ino if self.path.exists() else -1
        while pids := self.processes():
            held = {fd: pid for pid in pids if (fd := _pidfd(pid)) is not None}
            try:
                ours = [pid for fd, pid in held.items() if _kill(pid, fd, inode)]
                killed += len(ours)
                for pid in ours:
                    _thaw(pid)
                _wait_for_ends(held, limit)
            finally:
                for fd in held:
                    os.close(fd)
            if time.monotonic() > limit:
                raise DemoError(f"processes {pids} of {self.name} do not die of SIGKILL")
        return killed

    def delete(self) -> None:
        """Kill whatever lives in it and remove the name; harmless if it is gone already, or somebody else does it."""
        if not self.path.exists():
            return
        try:
            self.kill_all()
            run("ip", "netns", "del", self.name)
        except (DemoError, FileNotFoundError):
            if self.path.exists():
                raise


def named_namespaces(prefix: str) -> list[NetworkNamespace]:
    """The network namespaces on this machine whose names begin with `prefix`."""
    if not NAMED_NAMESPACES.is_dir():
        return []
    return [NetworkNamespace(path.name) for path in sorted(NAMED_NAMESPACES.iterdir()) if path.name.startswith(prefix)]


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _network_inode(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return -1


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _kill(pid: int, pidfd: int, inode: int) -> bool:
    if _network_inode(pid) != inode:
        return False
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _thaw(pid: int) -> None:
    """Let it die, if it is frozen: by version 1 of cgroups not even SIGKILL reaches a process before it is thawed
    (linux, admin-guide/cgroup-v1/freezer-subsystem)."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        inside = next((line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "freezer"), "/")
        state = _FREEZER / inside.lstrip("/") / "freezer.state"
        if inside != "/" and state.read_text() != "THAWED\n":
            state.write_text("THAWED")
    except OSError:
        return  # It has ended since.


def _wait_for_ends(pidfds: Collection[int], limit: float) -> None:
    """Wait until every process has ended (a pidfd becomes readable), or the monotonic time `limit`."""
    poll = select.poll()
    for fd in pidfds:
        poll.register(fd, select.POLLIN)
    left = len(pidfds)
    while left and (rest_s := limit - time.monotonic()) > 0:
        for fd, _ in poll.poll(rest_s * 1e3):
            poll.unregister(fd)
            left -= 1
