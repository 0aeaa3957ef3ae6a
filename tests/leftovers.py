"""What a run of the tests that was killed has left on this machine, cleared away by the next one.

Whatever a run makes bears `kgm` and the pid of the run, and belongs to nobody once that process is gone. Its processes
are known by the cgroup that the run put itself into: whatever it started is in there, however it was started and
whoever its parent is now, or in a cgroup of a program, which bears the name, too.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from kagemusha.demo.namespace import NAMED_NAMESPACES, NetworkNamespace
from kagemusha.demo.nodes import RUNS, clear_crashed_runs

DEMO_RUNS: Final = Path("/run/kagemusha-demo-test")
"""Of the demo's own tests."""
_DEADLINE_S: Final = 20.0
_OWNED: Final = re.compile(r"kgm-?(\d+)(?:\D.*)?")


def owner(name: str) -> int | None:
    """The pid in the name of a thing of the tests; None: it is something else's."""
    found = _OWNED.fullmatch(name)
    return int(found[1]) if found else None


def is_left(name: str) -> bool:
    """Whether a thing of this name was left by a run that is gone."""
    pid = owner(name)
    return pid is not None and not Path(f"/proc/{pid}").exists()


def enter_cgroup() -> Path | None:
    """Put this process, and with it all that it will start, into a cgroup of the run; None: there are no cgroups."""
    for root in _hierarchies():
        directory = root / f"kgm-{os.getpid()}-tests"
        try:
            directory.mkdir(exist_ok=True)
            (directory / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            continue
        return directory
    return None


def leave_cgroup(directory: Path) -> None:
    """Undo `enter_cgroup`, and end what still runs in it: programs go on without the agents that a test has ended."""
    (directory.parent / "cgroup.procs").write_text(str(os.getpid()))
    _end_all(directory)


def clear() -> list[str]:
    """Clear away what dead runs have left; gives what it was. Runs that begin at once do it one after the other."""
    with (Path(tempfile.gettempdir()) / "kgm-leftovers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _clear()


def _clear() -> list[str]:
    cleared = []
    for directory in _cgroups():
        _end_all(directory)
        cleared.append(str(directory))
    for path in sorted(NAMED_NAMESPACES.glob("kgm*")):
        if is_left(path.name):
            NetworkNamespace(path.name).delete()
            cleared.append(str(path))
    for _, name in socket.if_nameindex():
        # The other end of a pair goes with it; whatever of the two comes first.
        if is_left(name):
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
            cleared.append(name)
    for path in sorted(Path(tempfile.gettempdir()).glob("kgm*")):
        if is_left(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            cleared.append(str(path))
    for runs in (RUNS, DEMO_RUNS):
        cleared += [str(runs / run_id) for run_id in clear_crashed_runs(runs)]
    return cleared


def _hierarchies() -> Iterator[Path]:
    """Where cgroups are, first that which no program's own cgroup is made in."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    yield from (Path(line[1]) for line in lines if line[2] == "cgroup" and "pids" in line[3].split(","))
    yield from (Path(line[1]) for line in lines if line[2] == "cgroup2")
    yield from (Path(line[1]) for line in lines if line[2] == "cgroup" and "freezer" in line[3].split(","))


def _cgroups() -> list[Path]:
    """The cgroups of dead runs."""
    return [
        directory
        for root in _hierarchies()
        for directory in sorted([*root.glob("kgm*"), *root.glob("kagemusha/kgm*")])
        if directory.is_dir() and is_left(directory.name)
    ]


def _end_all(directory: Path) -> None:
    """Kill every process in a cgroup, thawed, and remove it with all that are within it."""
    # All at once where that can be done: a machine that has booted in there starts anew what is killed singly.
    if (directory / "cgroup.kill").exists():
        (directory / "cgroup.kill").write_text("1")
    limit_s = time.monotonic() + _DEADLINE_S
    # Whoever started a machine clears up behind it at the same time: what is gone in between is gone.
    for part in [Path(path) for path, _, _ in os.walk(directory, topdown=False)]:
        for name, word in (("cgroup.freeze", "0"), ("freezer.state", "THAWED")):
            with suppress(OSError):
                if (part / name).exists():
                    (part / name).write_text(word)
        while part.exists():
            for pid in _processes(part):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                part.rmdir()
            except OSError as error:
                if time.monotonic() > limit_s:
                    raise AssertionError(f"{part} can't be removed: {error.strerror}") from error
                time.sleep(0.001)


def _processes(cgroup: Path) -> list[int]:
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split() if pid != "0"]
    except OSError:
        return []  # It is gone.
