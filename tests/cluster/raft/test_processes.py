"""Three members as three processes: killed one by one and all at once, nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.raft.group import DEADLINE_S, NODES, free_ports, make_certificates

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 10.0


class Process:
    """One member's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.leadership: dict[str, Any] = {}
        self.changes: list[dict[str, Any]] = []
        self.first: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request; return its answer, or {"error": "Dead"} when the process ends before."""
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        if self._reader.done() or self.process.stdin is None:
            return {"error": "Dead"}
        self.process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
        return dict(await future)

    async def propose(self, command: str) -> dict[str, Any]:
        return await self.ask(propose=command, timeout_s=WAIT_S)

    async def leads(self) -> None:
        """Wait until this member has the lease."""
        while not self.leadership.get("holds"):
            self._changed.clear()
            await self._changed.wait()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader

    async def close(self) -> None:
        if self.process.returncode is None:
            await self.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()

    async def _read(self) -> None:
        if self.process.stdout is None:
            return
        while raw := await self.process.stdout.readline():
            try:
                line = json.loads(raw)
            except ValueError:
                continue  # a line of the log
            if "id" in line:
                self._waiting.pop(line["id"]).set_result(line)
            elif "leader" in line:
                self.leadership = line
                self.changes.append(line)
                self._changed.set()
            elif not self.first.done():
                self.first.set_result(line)
        for future in [*self._waiting.values(), self.first]:
            if not future.done():
                future.set_result({"error": "Dead"})


class Processes:
    """The three processes of one group in `directory`."""

    def __init__(self, directory: Path, compact_entries: int = 2000) -> None:
        self.directory = directory
        self.compact_entries = compact_entries
        self.peers = {node: ("127.0.0.1", port) for node, port in zip(NODES, free_ports(3), strict=True)}
        self.running: dict[str, Process] = {}
        self.all: list[Process] = []
        make_certificates(directory / "pki")

    async def spawn(self, node: str) -> Process:
        spec = {
            "node": node,
            "directory": str(self.directory),
            "peers": self.peers,
            "compact_entries": self.compact_entries,
        }
        pipe = asyncio.subprocess.PIPE
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.cluster.raft.process", json.dumps(spec), stdin=pipe, stdout=pipe, cwd=ROOT
        )
        process = Process(started)
        self.all.append(process)
        return process

    async def start(self, *nodes: str) -> None:
        started = await asyncio.gather(*(self.spawn(node) for node in nodes or NODES))
        for node, process in zip(nodes or NODES, started, strict=True):
            assert await process.first == {"started": node}
            self.running[node] = process

    async def leader(self, *among: str) -> str:
        """Wait until one of them has the lease; return who."""
        waits = {asyncio.create_task(self.running[node].leads()): node for node in among or NODES}
        done, late = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        return waits[done.pop()]

    async def states(self) -> list[dict[str, Any]]:
        """Wait until all members have the same state; return it, as each says it."""
        while True:
            states = await asyncio.gather(*(self.running[node].ask(ask="state") for node in NODES))
            if len({(state["count"], state["digest"]) for state in states}) == 1:
                return states


@asynccontextmanager
async def three_processes(directory: Path, compact_entries: int = 2000) -> AsyncIterator[Processes]:
    processes = Processes(directory, compact_entries)
    async with asyncio.timeout(6 * DEADLINE_S):
        try:
            await processes.start()
            yield processes
        finally:
            for process in processes.all:
                await process.close()


async def test_the_leader_is_killed_and_another_leads(tmp_path: Path) -> None:
    async with three_processes(tmp_path) as group:
        old = await group.leader()
        assert (await group.running[old].propose("before"))["result"] == "1"
        await group.running[old].kill()
        others = [node for node in NODES if node != old]
        new = await group.leader(*others)
        for place, node in enumerate(others, start=2):
            assert (await group.running[node].propose(node))["result"] == str(place)
        assert new != old
        await group.start(old)
        assert (await group.running[old].propose("back"))["result"] == "4"
        assert (await group.states())[0]["count"] == 4


async def test_all_are_killed_at_once_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Three rounds, with compactions all the while: kill -9 of all three amid proposals, then all again."""
    async with three_processes(tmp_path, compact_entries=50) as group:
        acknowledged: set[str] = set()
        asked = 0

        async def ask(node: str, commands: list[str], enough: asyncio.Event) -> None:
            for command in commands:
                answer = await group.running[node].propose(command)
                if "result" in answer:
                    acknowledged.add(command)
                if len(acknowledged) >= asked:
                    enough.set()

        for turn in range(3):
            asked = len(acknowledged) + 400
            enough = asyncio.Event()
            workers = [
                asyncio.create_task(ask(node, [f"{turn}-{node}-{worker}-{n}" for n in range(2000)], enough))
                for node in NODES
                for worker in range(4)
            ]
            await enough.wait()
            for process in group.running.values():
                process.process.kill()
            await asyncio.gather(*(process.kill() for process in group.running.values()))
            await asyncio.gather(*workers)
            await group.start()
        # A command that is applied already keeps its place: one that was lost would get a new one.
        before = (await group.running["a"].propose("mark"))["result"]
        again = await asyncio.gather(*(group.running["b"].propose(command) for command in sorted(acknowledged)))
        assert all(int(answer["result"]) < int(before) for answer in again)
        states = await group.states()
        assert states[0]["count"] == int(before)
        assert len(acknowledged) >= 1200


async def test_a_daemon_that_is_started_twice_is_refused(tmp_path: Path) -> None:
    async with three_processes(tmp_path) as group:
        second = await group.spawn("a")
        line = await second.first
        assert line["error"] == "DirectoryInUse"
        pid = group.running["a"].process.pid
        assert line["what"] == f"{tmp_path}/data-a: is in use by the daemon with process id {pid}"
        assert await second.process.wait() == 1
        assert (await group.running["a"].propose("undisturbed"))["result"] == "1"


async def test_a_stopped_process_loses_its_lease_and_another_leads(tmp_path: Path) -> None:
    """SIGSTOP is what a machine without processor time looks like: the leader wakes up without its lease."""
    async with three_processes(tmp_path) as group:
        old = await group.leader()
        others = [node for node in NODES if node != old]
        group.running[old].process.send_signal(19)  # SIGSTOP
        new = await group.leader(*others)
        taken_s = group.running[new].leadership["at_s"]
        group.running[old].process.send_signal(18)  # SIGCONT
        assert (await group.running[old].propose("awake"))["result"] == "1"
        later = [change for change in group.running[old].changes if change["at_s"] > taken_s]
        assert later
        assert not later[0]["holds"]
