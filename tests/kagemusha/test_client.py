"""The Python client against an API that is served for real."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.admin.app import Settings, contexts_of
from cluster.admin.models import ProgramView
from cluster.admin.port import NotHere
from cluster.raft.errors import NoQuorum
from kagemusha import client as module
from kagemusha.client import Access, ApiError, AsyncClient, Client
from tests.cluster.admin.fake_cluster import FakeCluster, event
from tests.cluster.admin.served import Served, served
from transport.pki import Authority

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as one:
        yield one


def asking(api: Served, *more: str, patience_s: float = 0.0, scope: str = "admin") -> AsyncClient:
    """A client of this API, and of other endpoints that are asked before it."""
    return AsyncClient([*more, api.url], token=api.tokens[scope], patience_s=patience_s)


async def test_the_three_names(api: Served) -> None:
    async with asking(api) as client:
        created = await client.create_mirrored_instance("web", "/etc/kagemusha/web.toml")
        assert [one["instance"] for one in created["instances"]] == ["web@a", "web@b", "web@c"]
        assert (await client.get_instance_status("web@b"))["role"] == "mirror"
        assert (await client.force_switchover("web@b"))["new"] == "web@b"


async def test_everything_else(api: Served) -> None:
    async with asking(api) as client:
        assert (await client.get_instance_context("redis@a"))["pid"] == 77
        assert [one["program"] for one in await client.list_programs()] == ["redis"]
        assert len(await client.list_nodes()) == 3
        assert (await client.start_program("redis"))["program"] == "redis"
        assert (await client.stop_program("redis"))["program"] == "redis"
        assert (await client.shutdown_program("redis"))["shut_down"]
        assert await client.delete_program("redis") == {"program": "redis"}
        assert (await client.get_health())["quorum"]


async def test_without_an_event_loop(api: Served) -> None:
    def use() -> str:
        with Client([api.url], token=api.tokens["admin"]) as client:
            client.create_mirrored_instance("web", "/etc/kagemusha/web.toml", ["b", "a"])
            client.force_switchover("web@a")
            assert [len(client.list_nodes()), len(client.list_programs())] == [3, 2]
            assert client.get_instance_context("web@a")["pid"] == 77
            assert client.stop_program("web") == client.start_program("web")
            assert client.shutdown_program("web")["shut_down"]
            client.delete_program("web")
            node = str(client.get_health()["node"])
            client.close()
            return node

    assert await asyncio.to_thread(use) == "a"


async def test_the_functions_take_the_environment(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGEMUSHA_ENDPOINTS", api.url)
    monkeypatch.setenv("KAGEMUSHA_TOKEN", api.tokens["admin"])

    def use() -> list[str]:
        created = module.create_mirrored_instance("web", "/etc/kagemusha/web.toml")
        return [
            created["program"],
            module.get_instance_status("web@a")["role"],
            module.force_switchover("web@b")["new"],
        ]

    assert await asyncio.to_thread(use) == ["web", "primary", "web@b"]


async def test_a_node_that_hangs_is_passed_over_in_the_middle_of_a_request(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was well a moment ago, so there is a connection; its kernel acknowledges, and nobody answers."""
    monkeypatch.setattr(module, "SILENCE_S", 0.1)
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
    monkeypatch.setattr(module, "SILENCE_S", 0.05)
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


async def test_events_go_on_where_they_ended(api: Served) -> None:
    for index in (1, 2):
        api.cluster.log.note(event(index))
    async with asking(api) as client:
        events = client.follow_events(after=1)
        assert (await anext(events))["index"] == 2
        api.cluster.log.note(event(3))
        assert (await anext(events))["index"] == 3
        await events.aclose()  # type: ignore[attr-defined]


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


@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        ("", "is no endpoint"),
        ("host", "is no endpoint"),
        ("host:x", "is no endpoint"),
        ("ftp://host:1", "is no endpoint"),
        ("https://host:1/path", "is no endpoint"),
        ("http://10.0.0.1:7402", "in the clear"),
    ],
)
def test_endpoints_that_are_refused(endpoint: str, line: str) -> None:
    with pytest.raises(ApiError, match=line):
        AsyncClient([endpoint], token="kgm_x")


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("kgm_file\n")
    monkeypatch.setenv("KAGEMUSHA_TOKEN", "kgm_variable")
    assert Access.from_environment().token == "kgm_variable"
    assert Access.from_environment(token_file=str(file)).token == "kgm_file"
    monkeypatch.delenv("KAGEMUSHA_TOKEN")
    monkeypatch.setenv("KAGEMUSHA_TOKEN_FILE", str(file))
    assert Access.from_environment().token == "kgm_file"
    monkeypatch.setenv("KAGEMUSHA_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(ApiError, match=r"no token: .*none: No such file"):
        Access.from_environment()
    file.write_text("two words\n")
    with pytest.raises(ApiError, match="holds no token"):
        Access.from_environment(token_file=str(file))


def test_it_needs_nothing_else_of_kagemusha() -> None:
    """Programs import it: neither the other packages nor what they need comes along."""
    script = "import sys, json, kagemusha.client\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"agent", "cluster", "transport", "pysyncobj", "numpy", "pydantic", "typer"}


def test_a_connection_to_a_node_that_falls_silent_ends_by_itself() -> None:
    with module._socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000 * module.SILENCE_S
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
