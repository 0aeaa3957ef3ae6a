"""Any node answers: what only another one can do is asked there, over HTTPS, and of nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.admin.app import Settings, contexts_of
from cluster.admin.port import NotHere
from tests.cluster.admin.fake_cluster import FakeCluster
from tests.cluster.admin.served import Served, served
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


def test_a_directory_without_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no certificate for HTTPS"):
        contexts_of(tmp_path)
