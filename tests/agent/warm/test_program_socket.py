"""The socket beside the program: what it says is understood or refused, whoever is at the other end."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from agent.warm.assembly import Aged
from agent.warm.program_socket import ProgramSocket
from agent.warm.said import Complained, Current, Declared, Gone, Hello, Said
from transport.errors import ControlError

HELLO = {"kind": "hello", "format": 1, "program": "p", "pid": 1, "role": "primary", "runtime": "test", "structures": []}
BOOK = {
    "structure": "book",
    "type": b"12345678",
    "type_text": "dict",
    "limit": 1000,
    "consistency": "loop",
    "holds": None,
}


def whole(size: int, data: bytes, structure: str = "book") -> dict[str, Any]:
    numbers = {"token": 1, "version": 1, "size": size, "age_us": 0}
    return {"kind": "whole", "structure": structure, "state": bytes(8), "sum": bytes(8), "data": data, **numbers}


class Program:
    """The other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def say(self, *messages: object) -> None:
        for message in messages:
            body = msgpack.packb(message)
            self._writer.write(struct.pack("<I", len(body)) + body)

    def say_raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def hear(self) -> dict[str, Any]:
        (size,) = struct.unpack("<I", await self._reader.readexactly(4))
        message: dict[str, Any] = msgpack.unpackb(await self._reader.readexactly(size))
        return message

    async def ended(self) -> bool:
        return await asyncio.wait_for(self._reader.read(), 5) == b""

    def close(self) -> None:
        self._writer.close()


class Beside:
    """The socket and all that was heard at it."""

    def __init__(self, path: Path) -> None:
        self.heard: list[Said] = []
        self.news = asyncio.Condition()
        self.socket = ProgramSocket(path, os.geteuid(), self._hear, lambda: {"role": "primary", "token": 3})
        self._programs: list[Program] = []

    def _hear(self, said: Said) -> None:
        self.heard.append(said)

    async def until(self, kind: type[Said]) -> Said:
        """The first of that kind, that was heard or is to come."""
        async with asyncio.timeout(5):
            while True:
                for one in self.heard:
                    if isinstance(one, kind):
                        return one
                await asyncio.sleep(0.001)

    async def connect(self) -> Program:
        self._programs.append(Program(*await asyncio.open_unix_connection(self.socket.path)))
        return self._programs[-1]

    async def close(self) -> None:
        for program in self._programs:
            program.close()
        await self.socket.close()


@asynccontextmanager
async def beside(path: Path) -> AsyncIterator[Beside]:
    found = Beside(path / "program")
    found.socket.open()
    try:
        yield found
    finally:
        await found.close()


async def test_a_program_is_welcomed_and_understood(tmp_path: Path) -> None:
    async with beside(tmp_path) as agent:
        program = await agent.connect()
        program.say(HELLO, {"kind": "declare", **BOOK}, {"kind": "what will be", "new": 1})
        program.say(
            whole(5, b"abc"), {"kind": "current", "versions": {"book": 1}, "age_us": 7}, {"kind": "more", "data": b"de"}
        )
        welcome = await program.hear()
        assert (welcome["kind"], welcome["format"], welcome["role"], welcome["token"]) == ("welcome", 1, "primary", 3)
        aged = await agent.until(Aged)
        assert isinstance(aged, Aged)
        assert aged.update.data == b"abcde"
        assert aged.update.is_whole
        assert [type(one) for one in agent.heard] == [Hello, Declared, Current, Aged]


async def test_a_second_connection_replaces_the_first_which_is_told(tmp_path: Path) -> None:
    async with beside(tmp_path) as agent:
        first = await agent.connect()
        first.say(HELLO)
        await first.hear()
        second = await agent.connect()
        second.say(HELLO)
        assert (await second.hear())["kind"] == "welcome"
        assert (await first.hear())["code"] == "replaced"
        assert await first.ended()
        assert [type(one) for one in agent.heard] == [Hello, Gone, Hello]


async def test_what_is_above_its_limit_is_passed_over_and_the_rest_goes_on(tmp_path: Path) -> None:
    async with beside(tmp_path) as agent:
        program = await agent.connect()
        program.say(HELLO, {"kind": "declare", **BOOK}, whole(1001, b"x" * 600), {"kind": "more", "data": b"x" * 401})
        program.say(whole(3, b"abc", "unknown"), whole(3, b"abc"))
        aged = await agent.until(Aged)
        assert isinstance(aged, Aged)
        assert aged.update.data == b"abc"
        assert [one.code for one in agent.heard if isinstance(one, Complained)] == ["too-large", "unknown-structure"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (struct.pack("<I", 0), "a frame of 0 bytes"),
        (struct.pack("<I", 1 << 30), "a frame of 1073741824 bytes"),
        (struct.pack("<I", 3) + b"\xc1\xc1\xc1", "a frame that holds no msgpack"),
        (struct.pack("<I", 1) + b"\x01", "a frame that holds no map with a kind"),
        (struct.pack("<I", 14) + msgpack.packb({"kind": "current"}), "hello comes first"),
    ],
)
async def test_what_can_not_be_understood_ends_the_connection(tmp_path: Path, data: bytes, what: str) -> None:
    async with beside(tmp_path) as agent:
        program = await agent.connect()
        program.say_raw(data if what != "hello comes first" else b"")
        if what == "hello comes first":
            program.say({"kind": "withdraw", "structure": "book", "reason": "x"})
        said = await program.hear()
        assert said["code"] == "protocol"
        assert said["what"].startswith(what)
        assert await program.ended()


async def test_a_path_that_can_not_be_used_is_one_line(tmp_path: Path) -> None:
    found = Beside(tmp_path / "nowhere" / "program")
    with pytest.raises(ControlError, match="nowhere/program: No such file or directory"):
        found.socket.open()
