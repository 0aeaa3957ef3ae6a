"""Two real programs, a primary and its warm mirror, over real sockets; what is between them loses and reorders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kagemusha.structures.relay import Harm, Side, relay

ROOT = Path(__file__).resolve().parents[3]
SERVICE = "tests.kagemusha.structures.service"


class Program:
    """A running program and the lines of JSON that it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []

    async def says(self, what: str) -> dict[str, Any]:
        """Wait for a line of that kind, from here on."""
        assert self._process.stdout is not None
        while True:
            line = await asyncio.wait_for(self._process.stdout.readline(), 20)
            assert line, f"ended without saying {what}"
            self.lines.append(json.loads(line))
            if self.lines[-1]["what"] == what:
                return self.lines[-1]

    async def kill(self) -> None:
        """Kill it, and read what it still has said."""
        self._process.kill()
        out, _ = await self._process.communicate()
        self.lines += [json.loads(line) for line in out.splitlines()]

    async def errors(self) -> str:
        """Kill it and return its standard error."""
        self._process.kill()
        _, err = await self._process.communicate()
        return err.decode()


@contextlib.asynccontextmanager
async def program(*command: str, side: Side | None, role: str = "") -> AsyncIterator[Program]:
    """Run a Python program beside an agent."""
    given = {} if side is None else {"KAGEMUSHA_SOCKET": str(side.path)}
    if role:
        given["KAGEMUSHA_ROLE"] = role
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=ROOT,
        env={**os.environ, **given},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("consistency", ["loop", "lock"])
@pytest.mark.parametrize("one_in", [0, 8])
async def test_nothing_that_was_committed_is_lost(tmp_path: Path, consistency: str, one_in: int) -> None:
    async with relay(tmp_path) as (first, second):
        harm = Harm(7, one_in) if one_in else None
        first.harm = harm
        async with (
            program("-m", SERVICE, consistency, side=second, role="mirror") as mirror,
            program("-m", SERVICE, consistency, side=first, role="primary") as primary,
        ):
            for _ in range(15):
                assert (await primary.says("committed"))["mirrors"] == 1
            await primary.kill()
            committed = max(line["number"] for line in primary.lines if line["what"] == "committed")
            second.token = 2
            second.send({"kind": "promote", "token": 2})
            found = await mirror.says("promoted")
            assert found["number"] >= committed
            assert found["table"] >= committed
            assert found["last"] == [found["number"]], "half of a transaction was taken"
            answer = await second.has_said("promoted")
            assert set(answer["holds"]) == {"book", "table"}
            whole = await second.has_said("whole", 2)
            assert whole["token"] == 2
        if harm is not None:
            assert min(harm.lost, harm.repeated, harm.swapped) > 0
            assert "resync" in second.said


async def test_a_promoted_program_goes_on_from_what_it_holds_where_it_can_be_sure_of_it(tmp_path: Path) -> None:
    async with relay(tmp_path) as (first, second):
        second.goes_on = True
        async with (
            program("-m", SERVICE, "loop", side=second, role="mirror") as mirror,
            program("-m", SERVICE, "loop", side=first, role="primary") as primary,
        ):
            await primary.says("committed")
            await primary.kill()
            second.send({"kind": "promote", "token": 2})
            await mirror.says("promoted")
            await second.has_said("promoted")
            declared = [one for one in second.said["declare"] if one["holds"] is not None]
            await second.has_said("update")
            await second.has_said("whole")
        # What is tracked goes on; a plain dict may have been changed by anybody.
        assert [one["structure"] for one in declared] == ["book"]
        update = next(one for one in second.said["update"] if one["structure"] == "book")
        assert [update["base_version"], update["base"]] == declared[0]["holds"]
        assert update["token"] == 2
        assert {one["structure"] for one in second.said["whole"]} == {"table"}


LARGE = """
import asyncio
from kagemusha import structures
BOOK = structures.Dict({n: (n, "row") for n in range(50_000)})
async def main():
    structures.start()
    structures.mirror("book", BOOK)
    if structures.role() == "mirror":
        while not BOOK or BOOK[0] != (9, "last"):
            await asyncio.sleep(0.01)
        print('{"what": "done", "equal": %s}' % str(list(BOOK) == [*range(50_000), "new"]).lower(), flush=True)
        await asyncio.Event().wait()
    for n in range(9):
        BOOK[0] = (n, "row")
        await asyncio.sleep(0.005)
    BOOK["new"] = 1
    BOOK[0] = (9, "last")
    print('{"what": "committed", "mirrors": %d}' % await structures.commit_async(), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_large_structure_is_copied_while_it_changes(tmp_path: Path) -> None:
    async with relay(tmp_path) as (first, second):
        async with (
            program("-c", LARGE, side=second, role="mirror") as mirror,
            program("-c", LARGE, side=first, role="primary") as primary,
        ):
            assert (await primary.says("committed"))["mirrors"] == 1
            assert (await mirror.says("done"))["equal"] is True


async def test_the_new_primary_is_mirrored_by_the_old_one(tmp_path: Path) -> None:
    async with relay(tmp_path) as (first, second):
        async with (
            program("-m", SERVICE, "loop", side=second, role="mirror") as b,
            program("-m", SERVICE, "loop", side=first, role="primary") as a,
        ):
            await a.says("committed")
            first.send({"kind": "demote", "token": 2})
            await a.says("demoted")
            second.send({"kind": "promote", "token": 2})
            before = await b.says("promoted")
            for _ in range(3):
                assert (await b.says("committed"))["mirrors"] == 1
            await b.kill()
            first.send({"kind": "promote", "token": 3})
            assert (await a.says("promoted"))["number"] >= before["number"] + 5


async def test_a_program_alone_says_so_once_and_runs_on(tmp_path: Path) -> None:
    nobody = Side(tmp_path / "nobody", "primary")
    async with program("-m", SERVICE, "loop", side=nobody) as alone:
        assert (await alone.says("started"))["role"] == "primary"
        assert (await alone.says("committed"))["mirrors"] == 0
        await asyncio.sleep(1.5)
        assert (await alone.errors()).count("no agent at") == 1


async def test_a_program_that_lost_its_agent_finds_the_next_one(tmp_path: Path) -> None:
    async with program("-m", SERVICE, "loop", side=Side(tmp_path / "primary", "primary"), role="primary") as primary:
        await primary.says("committed")
        async with relay(tmp_path) as (first, second):
            async with program("-m", SERVICE, "loop", side=second, role="mirror"):
                await first.has_said("hello")
                while (await primary.says("committed"))["mirrors"] == 0:
                    pass


UNCHANGED = """
import time
BOOK = {"n": 0}
OTHER = [1]
while True:
    BOOK["n"] += 1
    time.sleep(0.002)
    if BOOK["n"] == 100: OTHER = [2]
"""


async def test_a_program_that_knows_nothing_is_mirrored_by_path(tmp_path: Path) -> None:
    script = tmp_path / "unchanged.py"
    script.write_text(UNCHANGED)
    async with relay(tmp_path) as (first, _):
        names = {"book": "__main__:BOOK", "other": "__main__:OTHER", "gone": "nowhere.at_all:X"}
        first.structures = [{"name": name, "python": path, "limit": None} for name, path in names.items()]
        async with program("-m", "kagemusha.structures", str(script), side=first, role="primary"):
            await first.has_said("update", 3)
            await first.has_said("error", 2)
            missing, rebound = first.said["error"]
            assert missing["code"] == rebound["code"] == "path"
            assert "nowhere.at_all can't be imported" in missing["what"]
            assert "__main__:OTHER is bound to another object" in rebound["what"]
            seen = len(first.said["update"])
            await first.has_said("update", seen + 2)
            assert {message["structure"] for message in first.said["update"][seen:]} == {"book"}


async def test_bytes_that_are_no_message_end_the_connection(tmp_path: Path) -> None:
    async with relay(tmp_path) as (first, _):
        async with program("-m", SERVICE, "loop", side=first, role="primary"):
            await first.has_said("hello")
            first.send_raw(b"\xff\xff\xff\xff")
            assert (await first.has_said("error"))["code"] == "protocol"
            await first.has_said("hello", 2)
