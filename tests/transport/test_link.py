"""Links over real TLS on the loopback: who is let in, what is said to who is not, backpressure, and what is refused."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from transport.counters import Counters
from transport.envelope import RefusedEnvelope
from transport.errors import ConfigError, PeerRefused
from transport.frame import RefusedFrame, encode_frame
from transport.link import WRITE_BUFFER_BYTES, Conversation, Link, LinkLost, LinkServer, connect, serve
from transport.messages import STREAM, Bye, Pages, StreamMessage
from transport.pki import AUTHORITY_CERTIFICATE, NODE_CERTIFICATE, Authority
from transport.tls import Tls

Stream = Link[StreamMessage]
DEADLINE_S = 20


def _talk(token: int = 3) -> Conversation[StreamMessage]:
    return Conversation(STREAM, lambda: token, Counters())


class Cluster:
    """Certificates of nodes a and b, and of c, which belongs to another cluster."""

    def __init__(self, directory: Path) -> None:
        ours, other = Authority.create("ours"), Authority.create("other")
        for node, authority in (("a", ours), ("b", ours), ("c", other)):
            authority.issue(node).save(directory / node)
        self.directory = directory
        self.a, self.b, self.c = (Tls.load(directory / node) for node in "abc")

    def without_certificate(self) -> Tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.directory / "a" / AUTHORITY_CERTIFICATE)
        return Tls("x", context, context)

    def old_protocol(self) -> Tls:
        context = Tls.load(self.directory / "b").client
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return Tls("b", context, context)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return Cluster(tmp_path_factory.mktemp("pki"))


@asynccontextmanager
async def _server(
    tls: Tls,
    on_peer: Callable[[Stream], Awaitable[None]],
    talk: Conversation[StreamMessage] | None = None,
    handshake_s: float = 5,
) -> AsyncIterator[LinkServer[StreamMessage]]:
    server = await serve("127.0.0.1", 0, tls, on_peer, talk or _talk(), handshake_s)
    try:
        yield server
    finally:
        await server.close()


async def _echo(link: Stream) -> None:
    while (message := await link.receive()) is not None:
        await link.send(message)


async def _refused(server: LinkServer[StreamMessage], count: int) -> list[str]:
    """Wait until the server has refused so many; return why."""
    async with asyncio.timeout(DEADLINE_S):
        while server.refused_count < count:
            await asyncio.sleep(0)
    return [error.what for error in server.refused]


async def _send_for_ever(link: Stream) -> None:
    while True:
        await link.send(Pages(bytes(1 << 20)))


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Run a test's coroutine on either loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(work: Awaitable[None]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(DEADLINE_S):
                await work

        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(limited())

    return runner


Run = Callable[[Awaitable[None]], None]


def test_messages_go_both_ways_and_the_peer_is_known(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        peers: list[str] = []

        async def on_peer(link: Stream) -> None:
            peers.append(link.peer)
            await _echo(link)

        async with _server(cluster.a, on_peer) as server:
            link = await connect("127.0.0.1", server.port, cluster.b, "a", _talk())
            big = Pages(bytes(range(256)) * (8 << 12))
            await link.send(Bye("1"), big, Bye("2"))
            assert [await link.receive() for _ in range(3)] == [Bye("1"), big, Bye("2")]
            nodelay = link._writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert (link.peer, nodelay != 0) == ("a", True)
            assert link.bytes_sent == link.bytes_received > len(big.part)
            await link.close()
        assert peers == ["b"]

    run(work())


def test_sends_of_several_tasks_keep_frames_whole(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async with _server(cluster.a, _echo) as server:
            link = await connect("127.0.0.1", server.port, cluster.b, "a", _talk())
            messages = [Pages(bytes([number]) * (300_000 + number)) for number in range(24)]

            async def receive() -> list[StreamMessage | None]:
                return [await link.receive() for _ in messages]

            received = asyncio.create_task(receive())
            await asyncio.gather(*(link.send(message) for message in messages))
            assert await received == messages
            await link.close()

    run(work())


def test_a_link_that_is_closed_in_order_ends_with_none(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async def on_peer(link: Stream) -> None:
            await link.send(Bye("last words"))

        async with _server(cluster.a, on_peer) as server:
            link = await connect("127.0.0.1", server.port, cluster.b, None, _talk())
            assert await link.receive() == Bye("last words")
            assert await link.receive() is None
            await link.close()

    run(work())


def test_a_reader_that_rests_holds_up_the_sender_within_a_bound(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        go, ended = asyncio.Event(), asyncio.Event()
        received: list[int] = []

        async def on_peer(link: Stream) -> None:
            await go.wait()
            while (message := await link.receive()) is not None:
                assert isinstance(message, Pages)
                received.append(len(message.part))
            ended.set()

        async with _server(cluster.a, on_peer) as server:
            link = await connect("127.0.0.1", server.port, cluster.b, "a", _talk())
            part = Pages(bytes(1 << 20))
            sent = 0

            async def send() -> None:
                nonlocal sent
                for _ in range(64):
                    await link.send(part)
                    sent += 1

            task = asyncio.create_task(send())
            while link._writer.transport.get_write_buffer_size() < WRITE_BUFFER_BYTES and not task.done():
                await asyncio.sleep(0)
            assert not task.done()
            assert sent < 40
            go.set()
            await task
            await link.close()
            await ended.wait()
            assert received == [1 << 20] * 64

    run(work())


def test_another_cluster_is_refused_on_both_sides(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async with _server(cluster.a, _echo) as server:
            with pytest.raises(PeerRefused, match="its certificate is not accepted") as error:
                await connect("127.0.0.1", server.port, cluster.c, "a", _talk())
            assert "same cluster's authority" in error.value.hint
            assert "\n" not in error.value.what
            assert "handshake" in (await _refused(server, 1))[0]

    run(work())


def test_a_client_of_another_cluster_that_trusts_us_is_refused(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        trusting = Tls("c", cluster.c.server, Tls.load(cluster.directory / "c").client)
        trusting.client.load_verify_locations(cluster.directory / "a" / AUTHORITY_CERTIFICATE)
        async with _server(cluster.a, _echo) as server:
            with pytest.raises(PeerRefused) as error:
                await connect("127.0.0.1", server.port, trusting, "a", _talk())
            assert "not accept our certificate" in error.value.what + error.value.hint
            assert "its certificate is not accepted" in (await _refused(server, 1))[0]

    run(work())


def test_no_certificate_is_refused(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async with _server(cluster.a, _echo) as server:
            with pytest.raises(PeerRefused):
                await connect("127.0.0.1", server.port, cluster.without_certificate(), "a", _talk())
            assert "shows no certificate" in (await _refused(server, 1))[0]

    run(work())


def test_an_older_protocol_is_refused(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async with _server(cluster.a, _echo) as server:
            with pytest.raises(PeerRefused, match="ended the connection in the handshake"):
                await connect("127.0.0.1", server.port, cluster.old_protocol(), "a", _talk())
            assert "no TLS 1.3 connection" in (await _refused(server, 1))[0]

    run(work())


def test_another_node_than_expected_is_refused(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async with _server(cluster.a, _echo) as server:
            with pytest.raises(PeerRefused, match="is node a, not b"):
                await connect("127.0.0.1", server.port, cluster.b, "b", _talk())

    run(work())


def test_who_says_nothing_is_refused_after_the_deadline(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async with _server(cluster.a, _echo, handshake_s=0.05) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert "handshake" in (await _refused(server, 1))[0]
            writer.transport.abort()

    run(work())


def test_a_server_that_says_nothing_is_given_up(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with pytest.raises(PeerRefused, match=r"no answer within 0\.05 s"):
                await connect("127.0.0.1", silent.getsockname()[1], cluster.b, "a", _talk(), handshake_s=0.05)

    run(work())


def test_nobody_there_is_one_line(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        with pytest.raises(PeerRefused, match=r"127\.0\.0\.1:1: Connection refused"):
            await connect("127.0.0.1", 1, cluster.b, "a", _talk())
        async with _server(cluster.a, _echo) as server:
            with pytest.raises(PeerRefused, match=r"can't listen on .*: Address already in use"):
                await serve("127.0.0.1", server.port, cluster.a, _echo, _talk())

    run(work())


def test_what_can_t_be_accepted_is_counted_and_ends_the_link(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        talk = _talk(token=5)
        errors: list[Exception] = []
        ended = asyncio.Event()

        async def on_peer(link: Stream) -> None:
            try:
                await link.receive()
            except Exception as error:
                errors.append(error)
                raise
            finally:
                ended.set()

        async with _server(cluster.a, on_peer, talk) as server:
            for raw in (b"GET / HTTP/1.1\r\n" * 4, b"".join(encode_frame(200, 5, 1, b""))):
                ended.clear()
                link = await connect("127.0.0.1", server.port, cluster.b, "a", _talk(token=5))
                link._writer.write(raw)
                await ended.wait()
                with pytest.raises((AssertionError, LinkLost)):
                    assert await link.receive() is not None
                await link.close()
            ended.clear()
            link = await connect("127.0.0.1", server.port, cluster.b, "a", _talk(token=4))
            await link.send(Bye("old"))
            await ended.wait()
            await link.close()
        assert [type(error) for error in errors] == [RefusedFrame, RefusedFrame, RefusedEnvelope]
        assert (talk.counters.malformed, talk.counters.unknown_kind, talk.counters.stale_token) == (1, 1, 1)

    run(work())


def test_a_broken_link_is_lost_for_the_sender(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async def on_peer(link: Stream) -> None:
            link.abort()

        async with _server(cluster.a, on_peer) as server:
            link = await connect("127.0.0.1", server.port, cluster.b, "a", _talk())
            with pytest.raises(LinkLost, match="a at 127"):
                await _send_for_ever(link)
            await link.close()

    run(work())


def test_a_raised_token_goes_out_and_is_expected(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async def on_peer(link: Stream) -> None:
            await link.receive()
            link.raise_token(link.token)
            await link.send(Bye(str(link.token)))

        async with _server(cluster.a, on_peer) as server:
            link = await connect("127.0.0.1", server.port, cluster.b, "a", _talk())
            link.raise_token(9)
            link.raise_token(2)
            await link.send(Bye(""))
            assert await link.receive() == Bye("9")
            await link.close()

    run(work())


def test_a_mistake_in_a_handler_is_raised_at_the_end(run: Run, cluster: Cluster) -> None:
    async def work() -> None:
        async def on_peer(link: Stream) -> None:
            raise ZeroDivisionError

        server = await serve("127.0.0.1", 0, cluster.a, on_peer, _talk())
        link = await connect("127.0.0.1", server.port, cluster.b, "a", _talk())
        assert await link.receive() is None
        await link.close()
        with pytest.raises(ZeroDivisionError):
            await server.close()

    run(work())


def test_an_identity_that_openssl_does_not_take_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Tls.load(tmp_path)


async def test_certificates_are_replaced_while_links_stay_open(tmp_path: Path) -> None:
    """In the order of a rotation: everybody trusts both, then everybody shows the new, then the old is not trusted."""
    Authority.create("ours").save(tmp_path)
    for node in "ab":
        Authority.load(tmp_path).issue(node).save(tmp_path / node)
    a, b = (Tls.load(tmp_path / node) for node in "ab")

    async def is_accepted(ours: Tls) -> bool:
        async with _server(a, _echo) as server:
            try:
                link = await connect("127.0.0.1", server.port, ours, "a", _talk())
            except PeerRefused:
                return False
            await link.close()
            return True

    outdated = Tls.load(tmp_path / "b")
    async with _server(a, _echo) as server:
        early = await connect("127.0.0.1", server.port, b, "a", _talk())
        Authority.load(tmp_path).renew(tmp_path)
        for node, tls in (("a", a), ("b", b)):
            (tmp_path / node / AUTHORITY_CERTIFICATE).write_bytes((tmp_path / AUTHORITY_CERTIFICATE).read_bytes())
            tls.reload()
        Authority.load(tmp_path).issue("a").save(tmp_path / "a")
        a.reload()
        # One has the new certificate, the other still the old one.
        assert await is_accepted(b)
        Authority.load(tmp_path).issue("b").save(tmp_path / "b")
        b.reload()
        assert await is_accepted(b)
        assert not await is_accepted(outdated)
        Authority.load(tmp_path).retire(tmp_path)
        for node, tls in (("a", a), ("b", b)):
            (tmp_path / node / AUTHORITY_CERTIFICATE).write_bytes((tmp_path / AUTHORITY_CERTIFICATE).read_bytes())
            tls.reload()
        assert await is_accepted(b)
        await early.send(Bye("still here"))
        async with asyncio.timeout(DEADLINE_S):
            assert await early.receive() == Bye("still here")
        await early.close()


async def test_a_reload_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    authority = Authority.create("ours")
    authority.issue("a").save(tmp_path / "a")
    tls = Tls.load(tmp_path / "a")
    before = tls.server, tls.client
    (tmp_path / "a" / NODE_CERTIFICATE).write_bytes(authority.issue("a").certificate)
    with pytest.raises(ConfigError, match="belongs to another key"):
        tls.reload()
    authority.issue("b").save(tmp_path / "a")
    with pytest.raises(ConfigError, match="is the certificate of node b, not of a"):
        tls.reload()
    assert (tls.server, tls.client) == before
