"""Any node answers: what only another one can do is asked there, over HTTPS, and of nobody else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.admin import app
from cluster.admin.app import Settings, contexts_of
from cluster.admin.port import NotHere
from cluster.raft.errors import NoQuorum
from tests.cluster.admin.fake_cluster import FakeCluster
from tests.cluster.admin.served import Reply, Served, served
from transport.errors import ConfigError
from transport.pki import Authority

CREATE = {"program_id": "web", "config_file": "/etc/kagemusha/web.toml"}


class TwoNodes:
    """b leads; a sends on. Both have the same tokens file."""

    def __init__(self, a: Served, b: Served) -> None:
        self.a, self.b = a, b
        a.tokens = b.tokens
        a.file.write_text(b.file.read_text())
        self.point_to("b")

    def point_to(self, node: str, admin: str = "") -> None:
        self.a.cluster.failure = NotHere(node, admin or f"127.0.0.1:{self.b.api.port}")


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[TwoNodes]:
    async with served(tmp_path / "a", FakeCluster("a")) as a, served(tmp_path / "b", FakeCluster("b")) as b:
        yield TwoNodes(a, b)


async def test_the_client_does_not_notice(two: TwoNodes) -> None:
    reply = await two.a.ask("POST", "/v1/instances", json=CREATE)
    assert reply.status == 201
    assert reply.headers["Location"] == "/v1/instances/web@a"
    assert (await two.a.ask("GET", "/v1/instances/web@c")).json["node"] == "c"
    assert (await two.a.ask("GET", "/v1/instances/none@c")).problem()[:2] == (404, "unknown")


async def test_a_key_is_remembered_where_it_was_carried_out(two: TwoNodes) -> None:
    for _ in range(2):
        reply = await two.a.ask("POST", "/v1/instances", json=CREATE, headers={"Idempotency-Key": "k"})
        assert reply.status == 201
    assert [what for what, _ in two.b.cluster.asked] == ["create"]


async def test_the_other_node_checks_the_token_too(two: TwoNodes) -> None:
    two.b.file.write_text("")
    assert (await two.a.ask("GET", "/v1/programs")).problem()[:2] == (401, "unauthenticated")


async def test_nobody_is_asked_in_a_circle(two: TwoNodes) -> None:
    two.b.cluster.failure = NotHere("a", f"127.0.0.1:{two.a.api.port}")
    assert (await two.a.ask("GET", "/v1/programs")).problem()[:2] == (503, "no-leader")
    assert len(two.a.cluster.asked) == 1


async def test_over_https_the_node_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority = Authority.create("test")
    settings = {}
    for node in ("a", "b"):
        authority.issue(node).save(tmp_path / f"pki-{node}")
        own, others = contexts_of(tmp_path / f"pki-{node}")
        settings[node] = Settings(node, "127.0.0.1", 0, own, others)
    async with (
        served(tmp_path / "a", FakeCluster("a"), Settings("a", "127.0.0.1", 0, None, settings["a"].others)) as a,
        served(tmp_path / "b", FakeCluster("b"), settings["b"]) as b,
    ):
        two = TwoNodes(a, b)
        assert (await a.ask("GET", "/v1/programs")).status == 200
        two.point_to("c")
        reply = await a.ask("GET", "/v1/programs")
        assert reply.problem()[:2] == (502, "peer")
        assert "its certificate is not that of node c" in reply.text
        assert len(b.cluster.asked) == 1


class Hanging:
    """What a stopped daemon is to others: its kernel takes connections and bytes, and nobody answers."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.has_heard = asyncio.Event()
        self.admin = ""

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(4096):
            self.heard += part
            self.has_heard.set()
        writer.close()

    def key(self) -> str:
        """The key of the request that came."""
        lines = self.heard.decode().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.lower().startswith("idempotency-key:"))


@asynccontextmanager
async def left_hanging(two: TwoNodes, method: str, path: str) -> AsyncIterator[tuple[Hanging, asyncio.Task[Reply]]]:
    """A request that a has sent on to a leader that hangs; a does not know that yet."""
    leader = Hanging()
    server = await asyncio.start_server(leader.attend, "127.0.0.1", 0)
    async with server:
        two.point_to("b", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        asking = asyncio.create_task(two.a.ask(method, path))
        async with asyncio.timeout(5.0):
            await leader.has_heard.wait()
        yield leader, asking
        assert asking.done()


async def test_when_another_one_leads_it_is_asked_the_same(two: TwoNodes) -> None:
    async with left_hanging(two, "POST", "/v1/programs/redis/stop") as (leader, asking):
        two.point_to("c")
        two.a.cluster.gone.add("b")
        assert (await asyncio.wait_for(asking, 5.0)).status == 200
    [(what, request_id)] = two.b.cluster.asked
    # Neither had a key; what the first one may have done under this one is not done again.
    assert (what, request_id) == ("stop", "api-" + hashlib.sha256(f"admin\0{leader.key()}".encode()).hexdigest())


async def test_when_this_node_leads_now_it_does_the_same_itself(two: TwoNodes) -> None:
    async with left_hanging(two, "POST", "/v1/programs/redis/stop") as (leader, asking):
        two.a.cluster.failure = None
        two.a.cluster.gone.add("b")
        assert (await asyncio.wait_for(asking, 5.0)).status == 200
    (_, first), (_, second) = two.a.cluster.asked
    assert first == second == "api-" + hashlib.sha256(f"admin\0{leader.key()}".encode()).hexdigest()


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [("GET", "/v1/programs", 503, "no-leader"), ("POST", "/v1/programs/redis/stop", 504, "unknown-outcome")],
)
async def test_when_nobody_leads_that_is_the_answer(
    two: TwoNodes, monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: int, word: str
) -> None:
    monkeypatch.setattr(app, "ELECTION_S_MAX", 0.2)
    async with left_hanging(two, method, path) as (_, asking):
        two.a.cluster.failure = NoQuorum(1, 3, ("b", "c"), {})
        two.a.cluster.gone.add("b")
        reply = await asyncio.wait_for(asking, 5.0)
    assert reply.problem() == (status, word, "node b was asked, and leads no more or is not heard")
    assert "send it again" in reply.json["hint"]


async def test_a_leader_whose_daemon_has_ended_is_left_for_the_next_one(two: TwoNodes) -> None:
    two.point_to("b", "127.0.0.1:9")
    asking = asyncio.create_task(two.a.ask("GET", "/v1/programs"))
    await asyncio.sleep(0)
    async with asyncio.timeout(5.0):
        while not two.a.cluster.asked:
            await asyncio.sleep(0.01)
    two.point_to("c")
    assert (await asyncio.wait_for(asking, 5.0)).status == 200


def test_a_directory_without_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no certificate for HTTPS"):
        contexts_of(tmp_path)
