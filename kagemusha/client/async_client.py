"""The cluster, asked by a program with an event loop: what may be asked, and how it is written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Final
from urllib.parse import quote, urlencode

import aiohttp

from kagemusha.client.access import Access
from kagemusha.client.nodes import PAUSE_S, Json, Nodes

PATIENCE_S: Final = 3.0


class AsyncClient:
    """Asks the cluster. Use as `async with AsyncClient(...) as client`; every method may raise ApiError."""

    def __init__(
        self,
        endpoints: Sequence[str] = (),
        *,
        token: str = "",
        authority: str = "",
        patience_s: float = PATIENCE_S,
    ) -> None:
        """What is not given is taken from the environment, see `Access.from_environment`. Raises ApiError.

        patience_s: how long a request is sent again while there is no leader, no quorum, or no node that answers.
        """
        self._nodes = Nodes(Access.given(endpoints, token, authority), patience_s)

    async def __aenter__(self) -> AsyncClient:
        self._nodes.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._nodes.close()

    async def create_mirrored_instance(
        self, program_id: str, config_file: str, nodes: Sequence[str] = (), *, key: str = ""
    ) -> Json:
        """Mirror a program from now on; returns the program with its instances. config_file: on every node."""
        body: Json = {"program_id": program_id, "config_file": config_file}
        if nodes:
            body["nodes"] = list(nodes)
        return await self._nodes.ask("POST", "/v1/instances", body, key=key)

    async def get_instance_status(self, instance_id: str) -> Json:
        """What an instance (`<program>@<node>`) is doing."""
        return await self._nodes.ask("GET", f"/v1/instances/{_quoted(instance_id)}")

    async def force_switchover(self, instance_id: str, *, key: str = "") -> Json:
        """Planned takeover: a mirror becomes the primary, a primary hands over to its best mirror."""
        return await self._nodes.ask("POST", f"/v1/instances/{_quoted(instance_id)}/switchover", key=key)

    async def get_instance_context(self, instance_id: str) -> Json:
        """What is mirrored, made visible without its contents."""
        context: Json = (await self._nodes.ask("GET", f"/v1/instances/{_quoted(instance_id)}/context"))["context"]
        return context

    async def get_instance_structures(self, instance_id: str, name: str = "", elements: int = 0) -> Json:
        """The named structures that an instance holds, with the content of one. elements: of each array, at most."""
        given = {key: value for key, value in (("name", name), ("elements", elements)) if value}
        query = f"?{urlencode(given)}" if given else ""
        return await self._nodes.ask("GET", f"/v1/instances/{_quoted(instance_id)}/structures{query}")

    async def list_programs(self) -> list[Json]:
        """All programs and their instances."""
        programs: list[Json] = (await self._nodes.ask("GET", "/v1/programs"))["programs"]
        return programs

    async def list_nodes(self) -> list[Json]:
        """All nodes, as the one that answers sees them."""
        nodes: list[Json] = (await self._nodes.ask("GET", "/v1/nodes"))["nodes"]
        return nodes

    async def start_program(self, program_id: str, *, key: str = "") -> Json:
        """Start a program that was stopped, or that failed and was left so."""
        return await self._nodes.ask("POST", f"/v1/programs/{_quoted(program_id)}/start", key=key)

    async def stop_program(self, program_id: str, *, key: str = "") -> Json:
        """End a program on every node; it can be started again."""
        return await self._nodes.ask("POST", f"/v1/programs/{_quoted(program_id)}/stop", key=key)

    async def shutdown_program(self, program_id: str, *, key: str = "") -> Json:
        """End a program before the whole cluster is shut down; it is remembered that it is to be started again."""
        return await self._nodes.ask("POST", f"/v1/programs/{_quoted(program_id)}/shutdown", key=key)

    async def delete_program(self, program_id: str, *, key: str = "") -> Json:
        """End a program on every node and forget it."""
        return await self._nodes.ask("DELETE", f"/v1/programs/{_quoted(program_id)}", key=key)

    async def pause_program(self, program_id: str, for_s: int = 3600, *, key: str = "") -> Json:
        """Maintenance: no failover of a program for so long."""
        return await self._nodes.ask("POST", f"/v1/programs/{_quoted(program_id)}/pause", {"for_s": for_s}, key=key)

    async def resume_program(self, program_id: str, *, key: str = "") -> Json:
        """Failover of a program again."""
        return await self._nodes.ask("POST", f"/v1/programs/{_quoted(program_id)}/resume", key=key)

    async def force_failover(self, instance_id: str, *, force: bool = False, key: str = "") -> Json:
        """Unplanned takeover by hand: from what a mirror holds. `force`: though the primary serves."""
        return await self._nodes.ask(
            "POST", f"/v1/instances/{_quoted(instance_id)}/failover", {"force": force}, key=key
        )

    async def drain_node(self, node: str, *, key: str = "") -> Json:
        """No program comes to this node while another will do; its primaries stay until they are switched over."""
        return await self._nodes.ask("POST", f"/v1/nodes/{_quoted(node)}/drain", key=key)

    async def undrain_node(self, node: str, *, key: str = "") -> Json:
        """Programs may come to this node again."""
        return await self._nodes.ask("POST", f"/v1/nodes/{_quoted(node)}/undrain", key=key)

    async def set_log_level(self, node: str, level: str, for_s: int = 600) -> Json:
        """How much a node logs, with its agents, for a time: `debug`, `info`, `warning` or `error`."""
        return await self._nodes.ask("POST", f"/v1/nodes/{_quoted(node)}/log-level", {"level": level, "for_s": for_s})

    async def get_history(self, program_id: str = "", limit: int = 100) -> list[Json]:
        """The newest of what was agreed, as the node that answers remembers it; of a program, or of all."""
        query = f"?limit={limit}" + (f"&program={_quoted(program_id)}" if program_id else "")
        events: list[Json] = (await self._nodes.ask("GET", f"/v1/history{query}"))["events"]
        return events

    async def get_health(self) -> Json:
        """What the first node that answers knows of the group."""
        return await self._nodes.ask("GET", "/health")

    async def follow_events(self, after: int | None = None) -> AsyncIterator[Json]:
        """What is agreed, as it happens, for ever: another node goes on where one ends."""
        while True:
            async with self._nodes.answer("GET", "/v1/events", _last_event(after)) as answer:
                async for event in _events_of(answer):
                    after = int(event["index"])
                    yield event
            await asyncio.sleep(PAUSE_S)


async def _events_of(answer: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    data: list[str] = []
    try:
        async for line in answer.content:
            text = line.decode().rstrip("\n")
            if text.startswith("data: "):
                data.append(text.removeprefix("data: "))
            elif not text and data:
                yield json.loads("\n".join(data))
                data.clear()
    except (aiohttp.ClientError, TimeoutError):
        return


def _last_event(after: int | None) -> dict[str, str]:
    return {} if after is None else {"Last-Event-ID": str(after)}


def _quoted(name: str) -> str:
    return quote(name, safe="@")
