"""The exchange of examples/: alone, and as a primary with a warm mirror that takes over."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.kagemusha.structures.relay import Side, relay

ROOT = Path(__file__).resolve().parents[3]
EXCHANGE = ROOT / "examples" / "exchange"
DEADLINE_S = 20
WRONG = ("", "BUY", "BUY ann 0 1", "BUY ann 1 -1", "BUY \u00e4 1 1", "STEAL ann", f"BUY ann {'9' * 99} 1")
QUESTIONS = ("CHECK", "TOP", "LAST", "ACCOUNT ann", "ACCOUNT bob")


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """The rules, without a network."""
    sys.path.insert(0, str(EXCHANGE))
    try:
        yield importlib.import_module("engine")
    finally:
        sys.path.remove(str(EXCHANGE))
        sys.modules.pop("engine", None)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Client:
    """Asks one line at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, line: str) -> str:
        self._writer.write(f"{line}\n".encode())
        return (await asyncio.wait_for(self._reader.readline(), DEADLINE_S)).decode().strip()


class Instance:
    """One running exchange."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self._port = process, port
        self._said = ""

    async def serves(self) -> None:
        """Wait until it says so."""
        assert self._process.stderr is not None
        while line := await asyncio.wait_for(self._process.stderr.readline(), DEADLINE_S):
            self._said += line.decode()
            if line.startswith(b"serving"):
                return
        raise AssertionError("it ended")

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def is_silent(self) -> bool:
        """Whether nobody listens."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    async def kill(self) -> str:
        """Kill it; all that it has said."""
        if self._process.returncode is None:
            self._process.kill()
            self._said += (await self._process.communicate())[1].decode()
        return self._said


@contextlib.asynccontextmanager
async def exchange(side: Side | None = None) -> AsyncIterator[Instance]:
    """Run one, beside an agent or without."""
    given = {} if side is None else {"KAGEMUSHA_SOCKET": str(side.path), "KAGEMUSHA_ROLE": side.role}
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXCHANGE / "service.py"), str(port)),
        env={**os.environ, "PYTHONPATH": str(ROOT), **given},
        stderr=asyncio.subprocess.PIPE,
    )
    instance = Instance(process, port)
    try:
        yield instance
    finally:
        await instance.kill()


async def test_alone_it_serves_and_promises_nothing() -> None:
    async with exchange() as alone:
        await alone.serves()
        async with alone.client() as one:
            assert await one.ask("BUY ann 101 10") == "OK 1 10"
            assert await one.ask("SELL bob 99 4") == "OK 2 0 4@101"
            assert await one.ask("SELL bob 99 1 SURE") == "OK 3 0 1@101 UNSURE"
            assert await one.ask("TOP") == "OK 101x5 -"
            assert await one.ask("LAST") == "OK 1@101 ann bob"
            assert await one.ask("CANCEL bob 1") == "NO bob has no open order 1"
            assert await one.ask("CANCEL ann 1") == "OK 5"
            assert await one.ask("ACCOUNT ann") == "OK 1 5 0 -505"
            assert await one.ask("CHECK") == "OK 3 5"
            for wrong in WRONG:
                assert (await one.ask(wrong)).startswith("NO ")
            assert await one.ask("CHECK") == "OK 3 5"
        assert (await alone.kill()).count("there is no agent") == 1


async def test_what_was_sure_is_in_the_mirror_that_takes_over(tmp_path: Path) -> None:
    async with relay(tmp_path) as (first, second), exchange(second) as mirror, exchange(first) as primary:
        await primary.serves()
        assert await mirror.is_silent(), "a mirror must not serve"
        async with primary.client() as ann, primary.client() as bob:
            sure = []
            for number in range(50):
                low, high = 100 + number % 3, 102 + number % 2
                await asyncio.gather(ann.ask(f"BUY ann {low} 2"), bob.ask(f"SELL bob {high} 3"))
                if number % 10 == 0:
                    answers = await asyncio.gather(ann.ask("BUY ann 90 1 SURE"), bob.ask("SELL bob 110 1 SURE"))
                    sure += [answer.rpartition(" ")[2] for answer in answers]
            assert (await ann.ask("BUY ann 1 1 SURE")).endswith(" SURE")
            before = [await ann.ask(question) for question in QUESTIONS]
        assert sure[-2:] == ["SURE"] * 2
        await primary.kill()
        second.send({"kind": "promote", "token": 2})
        await mirror.serves()
        async with mirror.client() as one:
            assert [await one.ask(question) for question in QUESTIONS] == before
            assert before[0].startswith("OK 111 ")
            price = before[1].split()[2].partition("x")[0]
            assert f"1@{price}" in await one.ask(f"BUY ann {price} 1"), "who waited for it waits no more"
            assert (await one.ask("CHECK")).startswith("OK 112 ")


Request = tuple[str, str, int, int]
requests = st.lists(
    st.tuples(
        st.sampled_from(["BUY", "SELL", "BUY", "SELL", "CANCEL"]),
        st.sampled_from(["ann", "bob", "eve"]),
        st.integers(95, 105),
        st.integers(1, 9),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=requests, cut=st.integers(0, 40))
def test_the_lines_are_the_same_when_they_are_worked_out_again(engine: Any, asked: list[Request], cut: int) -> None:
    going_on, begun_anew = engine.Exchange(engine.Book()), engine.Exchange(engine.Book())
    for at, (verb, owner, price, quantity) in enumerate(asked):
        if at == cut:
            begun_anew = engine.Exchange(begun_anew.book)
            begun_anew.look_through()
        line = f"CANCEL {owner} {price - 90}" if verb == "CANCEL" else f"{verb} {owner} {price} {quantity}"
        assert going_on.answer(line) == begun_anew.answer(line)
        assert going_on.answer("TOP") == begun_anew.answer("TOP")
        assert going_on.answer("CHECK").startswith("OK ")
