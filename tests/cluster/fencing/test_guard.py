"""A real watchdog process, real programs, real addresses on an interface of this test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from cluster.fencing.cgroup import ProgramCgroup
from cluster.fencing.guard import Guard
from cluster.fencing.hands import Hands
from cluster.fencing.lease_file import LeaseFile, Watched
from transport.barrier import Barriers

DEADLINE_S = 20.0
FAR_S = 3600.0
COMMAND = (sys.executable, "-m", "kagemusha", "watchdog")
INSTANCE = f"redis@kgm{os.getpid()}"
ROOT = Path(__file__).resolve().parents[3]


def now_s() -> float:
    """The clock of leases."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():
            await asyncio.sleep(0.001)


@pytest.fixture
def interface() -> Iterator[str]:
    """An interface with two addresses, in this test's own network."""
    name = f"kgm{os.getpid()}"
    for words in (
        f"link add {name} type veth peer name {name}p",
        f"link set {name} up",
        f"address add 10.93.0.100/24 dev {name}",
        f"address add fd93::100/64 dev {name} nodad",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


@pytest.fixture
def barriers() -> Iterator[Barriers]:
    """Those of this machine; in the end there is none of this test."""
    hands = Hands()
    yield hands.barriers
    hands.barriers.remove(INSTANCE)
    hands.close()


def add_address(interface: str, address: str) -> None:
    """Put an address onto the interface."""
    more = ["nodad"] if ":" in address else []
    subprocess.run(["ip", "address", "add", address, "dev", interface, *more], check=True)


def addresses(interface: str) -> str:
    """What is on the interface."""
    return subprocess.run(["ip", "address", "show", interface], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def program() -> Iterator[tuple[subprocess.Popen[bytes], ProgramCgroup]]:
    """A process in a cgroup of its own."""
    cgroup = ProgramCgroup.create(f"kgm-{os.getpid()}/guarded")
    with subprocess.Popen(["sleep", "1000"]) as process:
        cgroup.add(process.pid)
        yield process, cgroup
        cgroup.kill()
    limit_s = time.monotonic() + DEADLINE_S
    while cgroup.directory.exists() and time.monotonic() < limit_s:
        cgroup.remove()
    cgroup.directory.parent.rmdir()


@asynccontextmanager
async def guarded(directory: Path, command: Sequence[str] = COMMAND) -> AsyncIterator[Guard]:
    """A guard with its watchdog, which ends after the test."""
    os.environ["PYTHONPATH"] = str(ROOT)
    guard = Guard(directory / "leases", command, directory / "watchdog.log")
    await guard.start()
    try:
        yield guard
    finally:
        guard.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            pid = LeaseFile(directory / "leases").watchdog_pid
            os.kill(pid, 15)
            # A child that has ended is news for every later test of this process that waits for any.
            os.waitpid(pid, 0)


def watched(process: subprocess.Popen[bytes], cgroup: ProgramCgroup, token: int, address: str, on: str) -> Watched:
    """The program as a primary."""
    return Watched("redis", token, process.pid, address, on, str(cgroup.directory), INSTANCE if address else "")


@pytest.mark.parametrize("address", ["10.93.0.100/24", "fd93::100/64"])
async def test_a_lease_that_ends_stops_the_program_and_one_that_comes_back_lets_it_go_on(
    tmp_path: Path,
    interface: str,
    program: tuple[subprocess.Popen[bytes], ProgramCgroup],
    barriers: Barriers,
    address: str,
) -> None:
    process, cgroup = program
    async with guarded(tmp_path) as guard:
        guard.watch(watched(process, cgroup, 1, address, interface), now_s() + 0.2)
        guard.extend("redis", now_s() + 0.3)
        assert not cgroup.is_frozen()
        await until(lambda: guard.fencing("redis") is not None)
        answer = guard.fencing("redis")
        assert answer is not None
        assert (answer.token, answer.address_gone, answer.frozen) == (1, True, True)
        assert cgroup.is_frozen()
        assert address not in addresses(interface)
        assert barriers.stands(INSTANCE, ip_interface(address).ip)
        # Whatever puts the address back, it is gone again at the next turn.
        add_address(interface, address)
        await until(lambda: address not in addresses(interface))
        guard.extend("redis", now_s() + FAR_S)
        await until(lambda: guard.fencing("redis") is None)
        assert not cgroup.is_frozen()
        # The address is for the agent to claim again, with all that belongs to it.
        assert address not in addresses(interface)


async def test_a_fence_at_once_and_another_primary_after_it(
    tmp_path: Path, interface: str, program: tuple[subprocess.Popen[bytes], ProgramCgroup], barriers: Barriers
) -> None:
    process, cgroup = program
    track = tmp_path / "track"
    track.write_text("1\n")
    async with guarded(tmp_path) as guard:
        primary = watched(process, cgroup, 1, "10.93.0.100/24", interface)
        guard.watch(replace(primary, track=str(track)), now_s() + FAR_S)
        assert track.read_text() == "1\n"
        answer = await guard.fence("redis", DEADLINE_S)
        assert answer is not None
        assert answer.address_gone
        assert answer.frozen
        assert track.read_text() == "0\n"
        assert barriers.instances() >= {INSTANCE}
        await guard.unwatch("redis")
        assert guard.programs == frozenset()
        assert cgroup.is_frozen()
        cgroup.thaw()
        guard.watch(watched(process, cgroup, 2, "10.93.0.100/24", interface), now_s() + FAR_S)
        assert guard.fencing("redis") is None
        assert not cgroup.is_frozen()


async def test_a_program_without_a_cgroup_is_stopped_by_signals_which_is_read_back(
    tmp_path: Path, program: tuple[subprocess.Popen[bytes], ProgramCgroup]
) -> None:
    process, _ = program

    def state() -> str:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    async with guarded(tmp_path) as guard:
        guard.watch(Watched("redis", 1, process.pid, "", "", ""), now_s() + FAR_S)
        answer = await guard.fence("redis", DEADLINE_S)
        assert answer is not None
        assert (answer.frozen, state()) == (True, "T")
        guard.extend("redis", now_s() + FAR_S)
        await until(lambda: state() == "S")


async def test_a_daemon_that_comes_again_finds_its_watchdog(
    tmp_path: Path, program: tuple[subprocess.Popen[bytes], ProgramCgroup]
) -> None:
    process, cgroup = program
    async with guarded(tmp_path) as guard:
        guard.watch(watched(process, cgroup, 1, "", "lo"), now_s() + FAR_S)
        pid = LeaseFile(tmp_path / "leases").watchdog_pid
        again = Guard(tmp_path / "leases", COMMAND, tmp_path / "watchdog.log")
        await again.start()
        assert LeaseFile(tmp_path / "leases").watchdog_pid == pid
        assert again.programs == {"redis"}
        assert not cgroup.is_frozen()
        answer = await again.fence("redis", DEADLINE_S)
        assert answer is not None
        assert answer.frozen
        again.close()


async def test_a_watchdog_that_dies_is_started_again(
    tmp_path: Path, program: tuple[subprocess.Popen[bytes], ProgramCgroup]
) -> None:
    process, cgroup = program
    async with guarded(tmp_path) as guard:
        guard.watch(watched(process, cgroup, 1, "", "lo"), now_s() + 1.0)
        leases = LeaseFile(tmp_path / "leases")
        pid = leases.watchdog_pid
        os.kill(pid, 9)
        await until(lambda: leases.watchdog_pid != pid and guard.is_watched)
        await until(lambda: guard.fencing("redis") is not None)
        assert cgroup.is_frozen()


async def test_where_no_watchdog_can_be_had_the_daemon_stops_the_program_itself(
    tmp_path: Path, program: tuple[subprocess.Popen[bytes], ProgramCgroup]
) -> None:
    process, cgroup = program
    starts = tmp_path / "starts"
    starts.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    starts.chmod(0o755)
    async with guarded(tmp_path, (str(starts),)) as guard:
        guard.watch(watched(process, cgroup, 1, "", "lo"), now_s() + 3.0)
        starts.write_text("#!/bin/sh\nexit 1\n")
        os.kill(LeaseFile(tmp_path / "leases").watchdog_pid, 9)
        await until(lambda: not guard.is_watched)
        await until(lambda: guard.fencing("redis") is not None)
        assert cgroup.is_frozen()
        # And with one that can be had again, all is as it was.
        starts.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
        await until(lambda: guard.is_watched)
        guard.extend("redis", now_s() + FAR_S)
        await until(lambda: guard.fencing("redis") is None)
        assert not cgroup.is_frozen()


async def test_a_watchdog_that_stands_by_is_there_at_once(tmp_path: Path) -> None:
    """That of a unit: the daemon's own was faster, and when it is killed whichever comes first is the next."""
    path = tmp_path / "leases"
    async with guarded(tmp_path) as guard:
        waiting = subprocess.Popen([*COMMAND, "--stand-by", str(path)], cwd=ROOT)
        try:
            leases = LeaseFile(path)
            first = leases.watchdog_pid
            await asyncio.sleep(1.0)
            assert (waiting.poll(), leases.watchdog_pid) == (None, first)
            os.kill(first, signal.SIGKILL)
            await until(lambda: leases.watchdog_pid not in (0, first) and guard.is_watched)
            assert waiting.poll() is None
        finally:
            waiting.terminate()
            waiting.wait()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
