"""Two agents in one: what a primary says goes to a mirror, which loses, repeats and reorders it by a seed.

It speaks docs/structures-protocol.md with code of its own, so that both have to agree with the document.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import msgpack

Message = dict[str, Any]
UPDATES = ("update", "whole", "more")


class Changer(Protocol):
    """What is done to the messages on their way."""

    def done_to(self, message: Message) -> list[Message]: ...


class Side:
    """One of the two programs, as its agent sees it. `said`: everything that it has sent, by kind."""

    def __init__(self, path: Path, role: str) -> None:
        self.path = path
        self.role = role
        self.token = 1
        self.structures: list[Message] = []
        self.interval_ms = 20
        self.goes_on = False
        self.said: dict[str, list[Message]] = {}
        self.other: Side | None = None
        self.news = asyncio.Condition()
        self.harm: Changer | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear a program until it ends."""
        self._writer = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = struct.unpack("<I", await reader.readexactly(4))
                assert 0 < size <= 1_114_112
                await self._heard(msgpack.unpackb(await reader.readexactly(size)))
        writer.close()
        self._writer = None

    def send(self, message: Message) -> None:
        """Say something to the program, if it is there."""
        if self._writer is not None and not self._writer.is_closing():
            body = msgpack.packb(message)
            self._writer.write(struct.pack("<I", len(body)) + body)

    def send_raw(self, data: bytes) -> None:
        """Send bytes that may be anything."""
        assert self._writer is not None
        self._writer.write(data)

    async def has_said(self, kind: str, number: int = 1) -> Message:
        """Wait until it has said that so often; return the last."""
        async with self.news:
            await asyncio.wait_for(self.news.wait_for(lambda: len(self.said.get(kind, ())) >= number), 20)
        return self.said[kind][-1]

    async def _heard(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "hello":
            self.send(
                {
                    "kind": "welcome",
                    "format": 1,
                    "instance": f"service@{self.role}",
                    "role": self.role,
                    "token": self.token,
                    "interval_ms": self.interval_ms,
                    "goes_on": self.goes_on,
                    "structures": self.structures,
                }
            )
        elif kind in UPDATES or kind == "current":
            self._pass_on(message)
        elif kind == "applied" and self.other is not None:
            self.other.send({**message, "kind": "acknowledged", "mirrors": 1})
        elif kind == "resync" and self.other is not None:
            self.other.send(message)
        async with self.news:
            self.said.setdefault(kind, []).append(message)
            self.news.notify_all()

    def _pass_on(self, message: Message) -> None:
        if self.other is None:
            return
        for one in [message] if self.harm is None else self.harm.done_to(message):
            self.other.send(one)


class Harm:
    """Loses one message in `one_in`, repeats another, and swaps another with the next. Counts them."""

    def __init__(self, seed: int, one_in: int) -> None:
        self._random = random.Random(seed)
        self._one_in = one_in
        self._held: list[Message] = []
        self.lost = self.repeated = self.swapped = 0

    def done_to(self, message: Message) -> list[Message]:
        """Return what arrives now."""
        if message["kind"] == "current":
            return [message]
        held, self._held = self._held, []
        fate = self._random.randrange(self._one_in)
        if fate == 0:
            self.lost += 1
            return held
        if fate == 1:
            self.repeated += 1
            return [message, *held, message]
        if fate == 2:
            self.swapped += 1
            self._held = [message]
            return held
        return [message, *held]


@contextlib.asynccontextmanager
async def relay(directory: Path) -> AsyncIterator[tuple[Side, Side]]:
    """Listen for a primary and a mirror; each is what the other's words go to."""
    primary, mirror = Side(directory / "primary", "primary"), Side(directory / "mirror", "mirror")
    primary.other, mirror.other = mirror, primary
    servers = [await asyncio.start_unix_server(side.serve, side.path) for side in (primary, mirror)]
    try:
        yield primary, mirror
    finally:
        for server in servers:
            server.close()
