"""A mirror's link over real TLS, to a primary that hangs up, says goodbye, or is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agent.kept_link import KeptLink, Source
from transport.errors import PeerRefused
from transport.link import Conversation, Link, LinkServer, serve
from transport.messages import STREAM, Bye, StreamMessage
from transport.pki import Authority
from transport.tls import Tls

DEADLINE_S = 20
GOODBYE = "goodbye"


class Ear:
    """Says its number at each connection, and once more at its end; what it heard, and how often it was connected."""

    def __init__(self) -> None:
        self.link: KeptLink[StreamMessage] | None = None
        self.words: list[str] = []
        self.connections = self.ends = 0

    def say(self, text: str) -> None:
        assert self.link is not None
        self.link.say(Bye(text))

    async def connected(self) -> None:
        self.connections += 1
        self.say(f"hello {self.connections}")

    async def heard(self, message: StreamMessage) -> bool:
        assert isinstance(message, Bye)
        self.words.append(message.reason)
        return message.reason != GOODBYE

    async def disconnected(self) -> None:
        self.ends += 1
        self.say(f"too late {self.connections}")


class Primary:
    """What it was told first over each connection. `answers`: what is done with each, in turn; the last again."""

    def __init__(self, *answers: Callable[[Link[StreamMessage]], Awaitable[None]]) -> None:
        self.first_words: asyncio.Queue[str] = asyncio.Queue()
        self._answers = list(answers)

    async def attend(self, link: Link[StreamMessage]) -> None:
        first = await link.receive()
        assert isinstance(first, Bye)
        self.first_words.put_nowait(first.reason)
        await (self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])(link)

    async def told(self) -> str:
        async with asyncio.timeout(DEADLINE_S):
            return await self.first_words.get()


async def hang_up(link: Link[StreamMessage]) -> None:
    link.abort()


async def say_goodbye(link: Link[StreamMessage]) -> None:
    await link.send(Bye("first"), Bye(GOODBYE), Bye("too late"))
    assert await link.receive() is None, "who has heard a goodbye ends the connection"


async def stay(link: Link[StreamMessage]) -> None:
    while await link.receive() is not None:
        pass


@pytest.fixture
async def linked(tmp_path: Path) -> AsyncIterator[Callable[[Primary, Ear], Awaitable[LinkServer[StreamMessage]]]]:
    """Makes a server of the primary, and a link of the ear to it."""
    authority = Authority.create("kept")
    for node in "ab":
        authority.issue(node).save(tmp_path / node)
    a, b = (Tls.load(tmp_path / node) for node in "ab")
    talk = Conversation(STREAM, lambda: 1)
    opened: list[LinkServer[StreamMessage]] = []
    links: list[KeptLink[StreamMessage]] = []

    async def make(primary: Primary, ear: Ear) -> LinkServer[StreamMessage]:
        server = await serve("127.0.0.1", 0, a, primary.attend, talk)
        opened.append(server)
        ear.link = KeptLink(Source("127.0.0.1", server.port, "a"), b, talk, ear)
        await ear.link.open()
        links.append(ear.link)
        return server

    yield make
    for link in links:
        await link.close()
    for server in opened:
        await server.close()


Linked = Callable[[Primary, Ear], Awaitable[LinkServer[StreamMessage]]]


async def test_a_link_that_breaks_is_made_again_and_begins_with_an_empty_queue(linked: Linked) -> None:
    primary, ear = Primary(hang_up, hang_up, stay), Ear()
    await linked(primary, ear)
    assert [await primary.told() for _ in range(3)] == ["hello 1", "hello 2", "hello 3"]
    assert (ear.connections, ear.ends) == (3, 2)


async def test_a_goodbye_ends_the_connection(linked: Linked) -> None:
    primary, ear = Primary(say_goodbye, stay), Ear()
    await linked(primary, ear)
    assert [await primary.told() for _ in range(2)] == ["hello 1", "hello 2"]
    assert ear.words == ["first", GOODBYE]


async def test_who_wants_another_connection_gets_one(linked: Linked) -> None:
    primary, ear = Primary(stay), Ear()
    await linked(primary, ear)
    assert await primary.told() == "hello 1"
    assert ear.link is not None
    ear.link.abort()
    assert await primary.told() == "hello 2"


async def test_close_ends_the_connection_and_returns_when_that_was_told(linked: Linked) -> None:
    primary, ear = Primary(stay), Ear()
    await linked(primary, ear)
    await primary.told()
    assert ear.link is not None
    await ear.link.close()
    assert (ear.connections, ear.ends) == (1, 1)


async def test_the_first_connection_is_made_or_refused(linked: Linked, tmp_path: Path) -> None:
    primary, ear = Primary(stay), Ear()
    server = await linked(primary, ear)
    other = KeptLink(
        Source("127.0.0.1", server.port, "c"), Tls.load(tmp_path / "b"), Conversation(STREAM, lambda: 1), ear
    )
    with pytest.raises(PeerRefused):
        await other.open()
