"""What may be asked, with an event loop and without, of an API that is served for real."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kagemusha import client as module
from kagemusha.client import Client
from tests.cluster.admin.fake_cluster import event
from tests.cluster.admin.served import Served
from tests.kagemusha.client.asking import asking

ROOT = Path(__file__).resolve().parents[3]


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


async def test_events_go_on_where_they_ended(api: Served) -> None:
    for index in (1, 2):
        api.cluster.log.note(event(index))
    async with asking(api) as client:
        events = client.follow_events(after=1)
        assert (await anext(events))["index"] == 2
        api.cluster.log.note(event(3))
        assert (await anext(events))["index"] == 3
        await events.aclose()  # type: ignore[attr-defined]


def test_it_needs_nothing_else_of_kagemusha() -> None:
    """Programs import it: neither the other packages nor what they need comes along."""
    script = "import sys, json, kagemusha.client\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"agent", "cluster", "transport", "pysyncobj", "numpy", "pydantic", "typer"}
