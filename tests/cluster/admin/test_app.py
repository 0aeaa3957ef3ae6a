"""The API as a client meets it: every answer, every refusal, over a real connection."""

from __future__ import annotations

import asyncio
import json

import pytest

from cluster.admin import app
from cluster.admin.port import (
    Busy,
    Exists,
    FilesDiffer,
    Invalid,
    LimitReached,
    NotHere,
    Refusal,
    Unfit,
    Unknown,
    refusal_of,
)
from cluster.raft.errors import NoQuorum, Overloaded, StorageError, UnknownOutcome
from cluster.registry.commands import Rejected
from tests.cluster.admin.fake_cluster import FakeCluster, event
from tests.cluster.admin.served import Served
from transport.errors import ConfigError, ControlError, KagemushaError, PeerRefused, PreflightError

CREATE = {"program_id": "web", "config_file": "/etc/kagemusha/web.toml"}


async def test_a_program_is_created(api: Served) -> None:
    reply = await api.ask("POST", "/v1/instances", json=CREATE)
    assert reply.status == 201
    assert reply.headers["Location"] == "/v1/instances/web@a"
    assert [one["instance"] for one in reply.json["instances"]] == ["web@a", "web@b", "web@c"]
    assert (await api.ask("GET", "/v1/instances/web@b")).json["role"] == "mirror"


async def test_nodes_may_be_named(api: Served) -> None:
    reply = await api.ask("POST", "/v1/instances", json={**CREATE, "nodes": ["b", "a"]})
    assert [one["node"] for one in reply.json["instances"]] == ["b", "a"]


async def test_what_can_be_looked_at(api: Served) -> None:
    status = (await api.ask("GET", "/v1/instances/redis@a", scope="viewer")).json
    assert (status["role"], status["lag_ms"], status["lease_age_ms"], status["pauses"]["p99_us"]) == (
        "primary",
        51.5,
        12.5,
        900,
    )
    programs = (await api.ask("GET", "/v1/programs", scope="viewer")).json["programs"]
    assert [one["program"] for one in programs] == ["redis"]
    nodes = (await api.ask("GET", "/v1/nodes", scope="viewer")).json["nodes"]
    assert [one["leader"] for one in nodes] == [True, False, False]
    context = (await api.ask("GET", "/v1/instances/redis@a/context", scope="viewer")).json["context"]
    assert context["threads"][0]["program_counter"] == {
        "address": 0x7F0000001000,
        "mapping": "/lib/libc.so.6",
        "offset": 0x1000,
    }


async def test_what_can_be_ordered(api: Served) -> None:
    done = await api.ask("POST", "/v1/instances/redis@b/switchover", scope="operator")
    assert (done.status, done.json["new"], done.json["token"]) == (200, "redis@b", 2)
    assert (await api.ask("POST", "/v1/programs/redis/stop", scope="operator")).json["program"] == "redis"
    assert (await api.ask("POST", "/v1/programs/redis/start", scope="operator")).json["program"] == "redis"
    assert (await api.ask("DELETE", "/v1/programs/redis")).json == {"program": "redis"}
    assert (await api.ask("DELETE", "/v1/programs/redis")).problem()[:2] == (404, "unknown")


async def test_health_needs_no_token_and_readiness_a_quorum(api: Served) -> None:
    assert (await api.ask("GET", "/health", scope=None)).json["leader"] == "a"
    assert (await api.ask("GET", "/readiness", scope=None)).status == 200
    api.cluster.quorum = False
    assert (await api.ask("GET", "/health", scope=None)).status == 200
    reply = await api.ask("GET", "/readiness", scope=None)
    assert reply.problem() == (503, "no-quorum", "node a has no quorum: not heard from b, c")
    assert reply.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (Unknown("x"), 404, "unknown"),
        (Exists("x"), 409, "exists"),
        (Busy("a switchover of redis is under way"), 409, "busy"),
        (Unfit("redis@b is not synced yet"), 409, "unfit"),
        (FilesDiffer("the file differs on node b"), 409, "files-differ"),
        (LimitReached("x"), 429, "limit"),
        (Invalid("x"), 422, "invalid"),
        (Refusal("x"), 409, "busy"),
        (NoQuorum(1, 3, ["b", "c"], {}), 503, "no-quorum"),
        (UnknownOutcome("x"), 504, "unknown-outcome"),
        (Overloaded("x"), 503, "overloaded"),
        (StorageError("/var/lib/kagemusha: No space left on device"), 507, "disk"),
        (ConfigError("x"), 422, "config"),
        (PreflightError("x"), 422, "preflight"),
        (ControlError("x"), 502, "agent"),
        (PeerRefused("x"), 502, "peer"),
        (KagemushaError("x"), 500, "failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_every_error_has_its_status(api: Served, error: KagemushaError, status: int, word: str) -> None:
    error.hint = "do this"
    api.cluster.failure = error
    reply = await api.ask("POST", "/v1/instances/redis@b/switchover")
    assert reply.problem() == (status, word, error.what)
    assert reply.json["hint"] == "do this"


def test_no_quorum_says_how_many_are_missing() -> None:
    assert "1 more needed; not in reach: b, c" in NoQuorum(1, 3, ["b", "c"], {}).what


async def test_an_unknown_outcome_says_how_to_ask_again(api: Served) -> None:
    api.cluster.failure = UnknownOutcome("x")
    reply = await api.ask("POST", "/v1/instances/redis@b/switchover")
    assert reply.json["hint"] == "send the same request again with the same Idempotency-Key"


def test_what_the_registry_rejects_is_told_as_it_is() -> None:
    refusal = refusal_of(Rejected("exists", "there is a program redis", "delete it"))
    assert isinstance(refusal, Exists)
    assert (refusal.what, refusal.hint) == ("there is a program redis", "delete it")


@pytest.mark.parametrize(
    ("body", "content_type", "status", "line"),
    [
        (b"", "application/json", 400, "the body is no JSON: line 1, column 1: Expecting value"),
        (b"{", "application/json", 400, "the body is no JSON: line 1, column 2"),
        (b"\xff", "application/json", 400, "the body is not UTF-8 at byte 0"),
        (b"[" * 60000, "application/json", 400, "the body is "),
        (b'{"program_id": NaN}', "application/json", 400, "the body is no JSON: NaN is no number"),
        (b'{"a": 1, "a": 1}', "application/json", 400, "the body is no JSON: an object has a key twice"),
        (b"9" * 5000, "application/json", 400, "the body is no JSON: "),
        (b"{}", "application/json", 422, "program_id: missing (1 more)"),
        (b"[]", "application/json", 422, "Input should be"),
        (b'{"program_id": "x", "config_file": "etc/x.toml"}', "application/json", 422, "config_file: "),
        (b'{"program_id": "X", "config_file": "/x"}', "application/json", 422, "program_id: "),
        (b'{"program_id": "x", "config_file": "/\\u0000"}', "application/json", 422, "config_file: "),
        (b'{"program_id": "x", "config_file": "/\\ud800"}', "application/json", 422, "config_file: "),
        (b'{"program_id": 1, "config_file": "/x"}', "application/json", 422, "program_id: "),
        (b'{"program_id": "x", "config_file": "/x", "command": ["sh"]}', "application/json", 422, "command: unknown"),
        (b'{"program_id": "x", "config_file": "/x", "nodes": ["a", "a"]}', "application/json", 422, "nodes: a node is"),
        (b"{}", "text/plain", 415, "a body of type text/plain can't be read"),
        (b"x" * 70000, "application/json", 413, "a body has at most 65536 bytes"),
    ],
)
async def test_bodies_that_are_refused(api: Served, body: bytes, content_type: str, status: int, line: str) -> None:
    reply = await api.ask("POST", "/v1/instances", data=body, headers={"Content-Type": content_type})
    assert reply.problem()[0] == status
    assert reply.problem()[2].startswith(line)
    assert api.cluster.asked == []


async def test_every_mistake_is_listed(api: Served) -> None:
    reply = await api.ask("POST", "/v1/instances", json={"programm_id": "x"})
    assert set(reply.json["errors"]) == {"program_id: missing", "config_file: missing", "programm_id: unknown field"}


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/v1/instances/redis", 422, "invalid"),
        ("GET", "/v1/instances/redis@A", 422, "invalid"),
        ("GET", "/v1/instances/redis@a%0a", 422, "invalid"),
        ("GET", "/v1/instances/redis@z", 404, "unknown"),
        ("GET", "/v1/instances/other@a/context", 404, "unknown"),
        ("POST", "/v1/programs/none/stop", 404, "unknown"),
        ("GET", "/v1/instances", 405, "no-method"),
        ("PUT", "/v1/programs/redis", 405, "no-method"),
        ("HEAD", "/v1/programs", 405, ""),
        ("GET", "/v1/nothing", 404, "no-page"),
        ("GET", "/", 404, "no-page"),
    ],
)
async def test_paths_that_are_refused(api: Served, method: str, path: str, status: int, word: str) -> None:
    reply = await api.ask(method, path)
    assert reply.status == status
    if word:
        assert reply.problem()[1] == word


async def test_a_request_without_a_body_takes_none(api: Served) -> None:
    reply = await api.ask("POST", "/v1/instances/redis@b/switchover", json={"to": "c"})
    assert reply.problem() == (422, "invalid", "force_switchover takes no body")


async def test_a_mistake_of_ours_is_told_and_nothing_of_it_leaks(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(instance: str) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(api.cluster, "status", broken)
    reply = await api.ask("GET", "/v1/instances/redis@a")
    assert reply.problem() == (500, "internal", "ZeroDivisionError in GET /v1/instances/redis@a")
    assert "secret" not in reply.text


async def test_answers_are_not_kept_by_anybody(api: Served) -> None:
    for path in ("/v1/programs", "/v1/nothing"):
        headers = (await api.ask("GET", path)).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "aiohttp" not in headers["Server"]


async def test_too_many_requests_at_once(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "REQUESTS_MAX", 1)
    go, there = asyncio.Event(), asyncio.Event()

    async def slow(instance: str) -> object:
        there.set()
        await go.wait()
        return await FakeCluster().status(instance)

    monkeypatch.setattr(api.cluster, "status", slow)
    first = asyncio.create_task(api.ask("GET", "/v1/instances/redis@a"))
    await there.wait()
    assert (await api.ask("GET", "/v1/programs")).problem()[:2] == (503, "overloaded")
    go.set()
    assert (await first).status == 200
    assert (await api.ask("GET", "/v1/programs")).status == 200


async def test_a_cluster_that_does_not_answer(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "ANSWER_S_MAX", 0.05)

    async def never(instance: str, request_id: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(api.cluster, "switchover", never)
    assert (await api.ask("POST", "/v1/instances/redis@b/switchover")).problem()[:2] == (504, "unknown-outcome")


async def test_metrics(api: Served) -> None:
    await api.ask("GET", "/v1/programs")
    text = (await api.ask("GET", "/metrics", scope="viewer")).text
    assert 'kagemusha_api_requests_total{node="a",operation="list_programs",status="200"} 1.0' in text
    assert 'kagemusha_quorum{node="a"} 1.0' in text
    assert 'kagemusha_lag_seconds{node="a",program="redis"} 0.0515' in text
    assert 'kagemusha_refused_total{node="a",program="redis",reason="corrupt"} 2.0' in text


async def test_events_come_as_they_happen(api: Served) -> None:
    for index in (3, 5, 5, 4):
        api.cluster.log.note(event(index))
    headers = {"Authorization": f"Bearer {api.tokens['viewer']}", "Last-Event-ID": "3"}
    async with api.session.get(f"{api.url}/v1/events", headers=headers) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert await answer.content.readuntil(b"\n\n") == b": kagemusha\n\n"
        first = await answer.content.readuntil(b"\n\n")
        assert first.startswith(b"id: 5\nevent: leader-changed\ndata: {")
        api.cluster.log.note(event(9, "now"))
        data = (await answer.content.readuntil(b"\n\n")).split(b"data: ")[1]
        assert json.loads(data)["text"] == "now"
        await api.api.close()
        assert await answer.content.read() == b""


@pytest.mark.parametrize("last", ["x", "-1", "1e3", "9" * 30, "\u0663"])
async def test_an_event_that_is_none(api: Served, last: str) -> None:
    if not last.isascii():
        last = "³".encode("latin-1").decode("latin-1")
    assert (await api.ask("GET", "/v1/events", headers={"Last-Event-ID": last})).problem()[:2] == (422, "invalid")


async def test_an_endpoint_that_is_taken(api: Served) -> None:
    from cluster.admin.auth import Tokens

    other = app.Api(FakeCluster(), Tokens(api.file), app.Settings("a", "127.0.0.1", api.api.port))
    with pytest.raises(ConfigError, match="the API can't listen there: "):
        await other.start()
    await other.close()


async def test_another_node_is_asked_nowhere(api: Served) -> None:
    """A leader that can't be reached: said so, at once."""
    api.cluster.failure = NotHere("b", "127.0.0.1:1")
    assert (await api.ask("GET", "/v1/instances/redis@b")).problem() == (
        503,
        "no-leader",
        "node b leads, but can't be reached",
    )


async def test_what_stands_after_the_question_mark(api: Served) -> None:
    for index in (1, 2, 3):
        api.cluster.log.note(event(index))
    found = (await api.ask("GET", "/v1/history?limit=2")).json["events"]
    assert [one["index"] for one in found] == [2, 3]
    assert (await api.ask("GET", "/v1/history?program=redis")).json == {"events": []}
    for query in ("limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "program=Web", "limits=1"):
        assert (await api.ask("GET", f"/v1/history?{query}")).problem()[:2] == (422, "invalid")


async def test_load_balancers_need_no_token(api: Served) -> None:
    assert (await api.ask("GET", "/primary", scope=None)).json == {"node": "a", "instances": ["redis@a"]}
    assert (await api.ask("GET", "/primary?program=web", scope=None)).problem()[:2] == (503, "not-here")
    assert (await api.ask("GET", "/replica?max_lag=52", scope=None)).status == 200
    assert (await api.ask("GET", "/replica?max_lag=51", scope=None)).problem()[:2] == (503, "not-here")
    api.cluster.quorum = False
    assert (await api.ask("GET", "/liveness", scope=None)).status == 200


async def test_maintenance(api: Served) -> None:
    paused = await api.ask("POST", "/v1/programs/redis/pause", scope="operator", json={"for_s": 60})
    assert paused.json["paused"]
    assert not (await api.ask("POST", "/v1/programs/redis/resume", scope="operator")).json["paused"]
    assert (await api.ask("POST", "/v1/programs/redis/pause", json={"for_s": 0})).problem()[:2] == (422, "invalid")
    assert (await api.ask("POST", "/v1/programs/redis/pause", scope="viewer", json={})).problem()[0] == 403
    assert (await api.ask("POST", "/v1/nodes/a/drain")).json["primaries"] == ["redis@a"]
    assert (await api.ask("POST", "/v1/nodes/z/undrain")).problem()[:2] == (404, "unknown")
    assert (await api.ask("POST", "/v1/instances/redis@b/failover", json={})).problem()[:2] == (409, "unfit")
    assert (await api.ask("POST", "/v1/instances/redis@b/failover", json={"force": True})).json["new"] == "redis@b"
