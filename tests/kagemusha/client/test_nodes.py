"""The nodes that the client asks: what does not answer, answers late, or is no node."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import warnings
from pathlib import Path

import pytest

from cluster.admin.app import Settings, contexts_of
from cluster.admin.models import ProgramView
from cluster.admin.port import NotHere
from cluster.raft.errors import NoQuorum
from kagemusha.client import ApiError, AsyncClient, nodes
from tests.cluster.admin.fake_cluster import FakeCluster
from tests.cluster.admin.served import Served, served
from tests.kagemusha.client.asking import asking
from transport.pki import Authority


async def test_a_node_that_hangs_is_passed_over_in_the_middle_of_a_request(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was well a moment ago, so there is a connection; its kernel acknowledges, and nobody answers."""
    monkeypatch.setattr(nodes, "SILENCE_S", 0.1)
    hangs = False

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            if not hangs:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asking(api, f"http://127.0.0.1:{port}") as client:
        assert await client.get_health() == {}
        hangs = True
        async with asyncio.timeout(5.0):
            assert (await client.stop_program("redis"))["program"] == "redis"
        assert [what for what, _ in api.cluster.asked] == ["stop"]


async def test_an_answer_that_takes_long_is_waited_for_while_the_node_lives(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "SILENCE_S", 0.05)
    stop = api.cluster.stop

    async def slowly(program: str, request_id: str) -> ProgramView:
        await asyncio.sleep(0.4)
        return await stop(program, request_id)

    monkeypatch.setattr(api.cluster, "stop", slowly)
    async with asking(api) as client:
        assert (await client.stop_program("redis"))["program"] == "redis"
    assert [what for what, _ in api.cluster.asked] == ["stop"]


async def test_a_refusal_is_an_error_with_its_word(api: Served) -> None:
    async with asking(api) as client:
        with pytest.raises(ApiError, match="there is no instance other@a") as caught:
            await client.get_instance_status("other@a")
        assert (caught.value.kind, caught.value.status, caught.value.hint) == (
            "unknown",
            404,
            "`kagemusha list` shows all",
        )
        with pytest.raises(ApiError, match="program_id: is no program id") as caught:
            await client.create_mirrored_instance("X", "etc")
        assert caught.value.errors == (
            "program_id: is no program id: 1 to 63 of a-z, 0-9 and -",
            "config_file: is no absolute path",
        )


async def test_nodes_that_do_not_answer_are_passed_over(api: Served) -> None:
    async with asking(api, "http://127.0.0.1:1", "http://127.0.0.1:2") as client:
        assert len(await client.list_nodes()) == 3


async def test_a_node_that_dies_in_the_middle_of_its_answer_is_passed_over(api: Served) -> None:
    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"nodes":')
        writer.close()

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    dying = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        async with asking(api, dying) as client:
            assert len(await client.list_nodes()) == 3
            assert (await client.stop_program("redis"))["program"] == "redis"
        async with AsyncClient([dying], token="kgm_x", patience_s=0) as client:
            with pytest.raises(ApiError, match="no answer") as caught:
                await client.list_nodes()
    assert caught.value.kind == "unreachable"


async def test_no_node_answers() -> None:
    async with AsyncClient(["http://127.0.0.1:1"], token="kgm_x", patience_s=0) as client:
        with pytest.raises(ApiError, match=r"127\.0\.0\.1:1: Connection refused") as caught:
            await client.list_nodes()
        assert caught.value.kind == "unreachable"


async def test_what_passes_is_waited_for_and_done_once(api: Served) -> None:
    """No quorum for a moment: the same key again, until it is done."""
    api.cluster.failure = NoQuorum(1, 3, ["b", "c"], {})

    async def heal() -> None:
        while not api.cluster.asked:
            await asyncio.sleep(0)
        api.cluster.failure = None

    healing = asyncio.create_task(heal())
    async with asking(api, patience_s=20) as client:
        await client.stop_program("redis")
    await healing
    assert len(api.cluster.asked) >= 2
    assert len(set(api.cluster.asked)) == 1


async def test_what_does_not_pass_is_told(api: Served) -> None:
    api.cluster.failure = NoQuorum(1, 3, ["b", "c"], {})
    async with asking(api) as client:
        with pytest.raises(ApiError, match="1 more needed; not in reach: b, c") as caught:
            await client.stop_program("redis")
        assert caught.value.kind == "no-quorum"


async def test_a_node_that_can_not_reach_the_leader(api: Served) -> None:
    api.cluster.failure = NotHere("b", "127.0.0.1:1")
    async with asking(api) as client:
        with pytest.raises(ApiError, match="node b leads, but can't be reached"):
            await client.list_programs()


async def test_over_https(tmp_path: Path) -> None:
    Authority.create("test").issue("a").save(tmp_path / "pki")
    Authority.create("other").issue("a").save(tmp_path / "other")
    own, others = contexts_of(tmp_path / "pki")
    async with served(tmp_path, FakeCluster(), Settings("a", "127.0.0.1", 0, own, others)) as api:
        endpoint, token = f"127.0.0.1:{api.api.port}", api.tokens["admin"]
        async with AsyncClient([endpoint], token=token, authority=str(tmp_path / "pki" / "authority.pem")) as client:
            assert len(await client.list_nodes()) == 3
        async with AsyncClient([endpoint], token=token, authority=str(tmp_path / "other" / "authority.pem")) as client:
            with pytest.raises(ApiError, match="its certificate is not of this cluster") as caught:
                await client.list_nodes()
            assert caught.value.kind == "certificate"
        async with AsyncClient([f"http://{endpoint}"], token=token, patience_s=0) as client:
            with pytest.raises(ApiError):
                await client.list_nodes()


def test_the_connection_to_a_node_that_hangs_ends_with_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there says goodbye, as TLS would have it."""
    monkeypatch.setattr(nodes, "SILENCE_S", 0.1)
    Authority.create("test").issue("a").save(tmp_path / "pki")
    context, _ = contexts_of(tmp_path / "pki")
    over = threading.Event()

    def hang(listening: socket.socket) -> None:
        with context.wrap_socket(listening.accept()[0], server_side=True) as connection:
            connection.recv(4096)
            over.wait()

    async def ask(port: int) -> None:
        authority = str(tmp_path / "pki" / "authority.pem")
        async with AsyncClient([f"127.0.0.1:{port}"], token="kgm_x", authority=authority, patience_s=0) as client:
            with pytest.raises(ApiError, match="no answer"):
                await client.list_nodes()

    with socket.create_server(("127.0.0.1", 0)) as listening, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        hanging = threading.Thread(target=hang, args=(listening,))
        hanging.start()
        asyncio.run(ask(listening.getsockname()[1]))
        gc.collect()
        over.set()
        hanging.join()
    assert not [str(one.message) for one in said]


async def test_something_that_is_no_api(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nContent-Type: text/html\r\n\r\noops")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncClient([f"http://127.0.0.1:{port}"], token="kgm_x", patience_s=0) as client:
            with pytest.raises(ApiError, match="answers 404 Not Found") as caught:
                await client.list_nodes()
            assert caught.value.hint == "is that the API of a node?"


def test_a_connection_to_a_node_that_falls_silent_ends_by_itself() -> None:
    with nodes._socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000 * nodes.SILENCE_S
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
