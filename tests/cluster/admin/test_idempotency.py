"""Twice is once."""

from __future__ import annotations

import asyncio

import pytest

from cluster.admin.idempotency import Answered, Idempotency
from cluster.admin.problem import ApiError
from cluster.raft.errors import UnknownOutcome
from tests.cluster.admin.served import Served

CREATE = {"program_id": "web", "config_file": "/etc/kagemusha/web.toml"}
KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}


async def test_the_same_again_gets_the_first_answer(api: Served) -> None:
    first = await api.ask("POST", "/v1/instances", json=CREATE, headers=KEY)
    again = await api.ask("POST", "/v1/instances", json=CREATE, headers=KEY)
    assert (first.status, first.text, first.headers["Location"]) == (201, again.text, again.headers["Location"])
    assert [what for what, _ in api.cluster.asked] == ["create"]
    other = await api.ask("POST", "/v1/instances", json=CREATE)
    assert other.problem()[:2] == (409, "exists")


async def test_a_key_is_of_one_request_and_one_bearer(api: Served) -> None:
    await api.ask("POST", "/v1/programs/redis/stop", headers=KEY)
    assert (await api.ask("POST", "/v1/programs/redis/start", headers=KEY)).problem()[:2] == (422, "key-reused")
    other = await api.ask("POST", "/v1/programs/redis/start", headers=KEY, scope="operator")
    assert other.status == 200
    ids = [request_id for _, request_id in api.cluster.asked]
    assert len(set(ids)) == 2


async def test_what_failed_may_be_tried_again_under_the_same_id(api: Served) -> None:
    api.cluster.failure = UnknownOutcome("nobody knows")
    assert (await api.ask("POST", "/v1/programs/redis/stop", headers=KEY)).status == 504
    api.cluster.failure = None
    assert (await api.ask("POST", "/v1/programs/redis/stop", headers=KEY)).status == 200
    (_, first), (_, second) = api.cluster.asked
    assert first == second


async def test_without_a_key_every_request_is_its_own(api: Served) -> None:
    await api.ask("POST", "/v1/programs/redis/stop")
    await api.ask("POST", "/v1/programs/redis/stop")
    assert len(set(api.cluster.asked)) == 2


@pytest.mark.parametrize("key", ["", "a b", "x" * 129])
async def test_keys_that_are_none(api: Served, key: str) -> None:
    reply = await api.ask("POST", "/v1/programs/redis/stop", headers={"Idempotency-Key": key})
    assert reply.problem()[:2] == (422, "invalid")


async def test_while_the_first_is_under_way(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    there, go = asyncio.Event(), asyncio.Event()
    stop = api.cluster.stop

    async def slow(program: str, request_id: str) -> object:
        there.set()
        await go.wait()
        return await stop(program, request_id)

    monkeypatch.setattr(api.cluster, "stop", slow)
    first = asyncio.create_task(api.ask("POST", "/v1/programs/redis/stop", headers=KEY))
    await there.wait()
    assert (await api.ask("POST", "/v1/programs/redis/stop", headers=KEY)).problem()[:2] == (409, "key-in-use")
    go.set()
    assert (await first).status == 200


def test_memory_is_bounded_and_what_is_under_way_stays() -> None:
    known = Idempotency(keys_max=3)
    under_way = known.begin("ops", "first", "POST", "/x", b"")
    for number in range(10):
        ticket = known.begin("ops", f"key-{number}", "POST", "/x", b"")
        known.end(ticket, Answered(200, b"{}"))
    assert known.begin("ops", "key-9", "POST", "/x", b"").answer is not None
    assert known.begin("ops", "key-0", "POST", "/x", b"").answer is None
    with pytest.raises(ApiError, match="still under way"):
        known.begin("ops", "first", "POST", "/x", b"")
    known.end(under_way, None)
