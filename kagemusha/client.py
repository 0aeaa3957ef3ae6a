"""The cluster, asked from Python: `create_mirrored_instance`, `get_instance_status`, `force_switchover`, and the rest.

    from kagemusha.client import Client

    with Client(["10.0.0.1:7402", "10.0.0.2:7402"], token="kgm_...", authority="/etc/kagemusha/pki/authority.pem") as c:
        c.create_mirrored_instance("redis", "/etc/kagemusha/redis.toml")
        print(c.get_instance_status("redis@a")["role"])

`AsyncClient` has the same methods as coroutines. Answers are the JSON objects that docs/api.md describes. Any node will
do: nodes that do not answer are passed over, and a request that changes something carries a key, so that it can be sent
again without being done twice. This module needs aiohttp, and nothing else of kagemusha.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import aiohttp

from kagemusha.client_access import (
    AUTHORITY_VARIABLE,
    DEFAULT_AUTHORITY,
    DEFAULT_ENDPOINT,
    ENDPOINTS_VARIABLE,
    Access,
    ApiError,
    tls_of,
)

__all__ = [
    "Access",
    "ApiError",
    "AsyncClient",
    "Client",
    "Json",
    "create_mirrored_instance",
    "force_switchover",
    "get_instance_status",
]

CONNECT_S: Final = 2.0
ANSWER_S: Final = 90.0
SILENCE_S: Final = 3.0
"""A node that acknowledges nothing for so long is gone, though it may never have said so (tcp(7), TCP_USER_TIMEOUT). A
daemon that hangs has a kernel that does acknowledge: one whose answer takes longer is asked whether it lives."""
EVENTS_S: Final = 20.0
"""A stream of events says something every 15 s, if only that there is nothing new."""
PATIENCE_S: Final = 3.0
"""How long a request is sent again while there is no leader, no quorum, or no node that answers."""
_PAUSE_S: Final = 0.2
_AGAIN: Final = ("no-leader", "no-quorum", "overloaded", "unknown-outcome", "key-in-use")
_PROBLEM_PREFIX: Final = "urn:kagemusha:"

Json = dict[str, Any]
Result = TypeVar("Result")


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
        """What is not given is taken from the environment, see `Access.from_environment`. Raises ApiError."""
        if token:
            named = tuple(endpoints) or tuple(os.environ.get(ENDPOINTS_VARIABLE, DEFAULT_ENDPOINT).split(","))
            access = Access(named, token, authority or os.environ.get(AUTHORITY_VARIABLE, DEFAULT_AUTHORITY))
        else:
            access = Access.from_environment(endpoints, authority=authority)
        self._urls = access.urls()
        self._token = access.token
        self._patience_s = patience_s
        self._tls = tls_of(access.authority) if any(url.startswith("https:") for url in self._urls) else None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AsyncClient:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
        connector = aiohttp.TCPConnector(socket_factory=_socket)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def create_mirrored_instance(
        self, program_id: str, config_file: str, nodes: Sequence[str] = (), *, key: str = ""
    ) -> Json:
        """Mirror a program from now on; returns the program with its instances. config_file: on every node."""
        body: Json = {"program_id": program_id, "config_file": config_file}
        if nodes:
            body["nodes"] = list(nodes)
        return await self._ask("POST", "/v1/instances", body, key=key)

    async def get_instance_status(self, instance_id: str) -> Json:
        """What an instance (`<program>@<node>`) is doing."""
        return await self._ask("GET", f"/v1/instances/{_quoted(instance_id)}")

    async def force_switchover(self, instance_id: str, *, key: str = "") -> Json:
        """Planned takeover: a mirror becomes the primary, a primary hands over to its best mirror."""
        return await self._ask("POST", f"/v1/instances/{_quoted(instance_id)}/switchover", key=key)

    async def get_instance_context(self, instance_id: str) -> Json:
        """What is mirrored, made visible without its contents."""
        context: Json = (await self._ask("GET", f"/v1/instances/{_quoted(instance_id)}/context"))["context"]
        return context

    async def get_instance_structures(self, instance_id: str, name: str = "", elements: int = 0) -> Json:
        """The named structures that an instance holds, with the content of one. elements: of each array, at most."""
        given = {key: value for key, value in (("name", name), ("elements", elements)) if value}
        query = f"?{urlencode(given)}" if given else ""
        return await self._ask("GET", f"/v1/instances/{_quoted(instance_id)}/structures{query}")

    async def list_programs(self) -> list[Json]:
        """All programs and their instances."""
        programs: list[Json] = (await self._ask("GET", "/v1/programs"))["programs"]
        return programs

    async def list_nodes(self) -> list[Json]:
        """All nodes, as the one that answers sees them."""
        nodes: list[Json] = (await self._ask("GET", "/v1/nodes"))["nodes"]
        return nodes

    async def start_program(self, program_id: str, *, key: str = "") -> Json:
        """Start a program that was stopped, or that failed and was left so."""
        return await self._ask("POST", f"/v1/programs/{_quoted(program_id)}/start", key=key)

    async def stop_program(self, program_id: str, *, key: str = "") -> Json:
        """End a program on every node; it can be started again."""
        return await self._ask("POST", f"/v1/programs/{_quoted(program_id)}/stop", key=key)

    async def shutdown_program(self, program_id: str, *, key: str = "") -> Json:
        """End a program before the whole cluster is shut down; it is remembered that it is to be started again."""
        return await self._ask("POST", f"/v1/programs/{_quoted(program_id)}/shutdown", key=key)

    async def delete_program(self, program_id: str, *, key: str = "") -> Json:
        """End a program on every node and forget it."""
        return await self._ask("DELETE", f"/v1/programs/{_quoted(program_id)}", key=key)

    async def pause_program(self, program_id: str, for_s: int = 3600, *, key: str = "") -> Json:
        """Maintenance: no failover of a program for so long."""
        return await self._ask("POST", f"/v1/programs/{_quoted(program_id)}/pause", {"for_s": for_s}, key=key)

    async def resume_program(self, program_id: str, *, key: str = "") -> Json:
        """Failover of a program again."""
        return await self._ask("POST", f"/v1/programs/{_quoted(program_id)}/resume", key=key)

    async def force_failover(self, instance_id: str, *, force: bool = False, key: str = "") -> Json:
        """Unplanned takeover by hand: from what a mirror holds. `force`: though the primary serves."""
        return await self._ask("POST", f"/v1/instances/{_quoted(instance_id)}/failover", {"force": force}, key=key)

    async def drain_node(self, node: str, *, key: str = "") -> Json:
        """No program comes to this node while another will do; its primaries stay until they are switched over."""
        return await self._ask("POST", f"/v1/nodes/{_quoted(node)}/drain", key=key)

    async def undrain_node(self, node: str, *, key: str = "") -> Json:
        """Programs may come to this node again."""
        return await self._ask("POST", f"/v1/nodes/{_quoted(node)}/undrain", key=key)

    async def set_log_level(self, node: str, level: str, for_s: int = 600) -> Json:
        """How much a node logs, with its agents, for a time: `debug`, `info`, `warning` or `error`."""
        return await self._ask("POST", f"/v1/nodes/{_quoted(node)}/log-level", {"level": level, "for_s": for_s})

    async def get_history(self, program_id: str = "", limit: int = 100) -> list[Json]:
        """The newest of what was agreed, as the node that answers remembers it; of a program, or of all."""
        query = f"?limit={limit}" + (f"&program={_quoted(program_id)}" if program_id else "")
        events: list[Json] = (await self._ask("GET", f"/v1/history{query}"))["events"]
        return events

    async def get_health(self) -> Json:
        """What the first node that answers knows of the group."""
        return await self._ask("GET", "/health")

    async def follow_events(self, after: int | None = None) -> AsyncIterator[Json]:
        """What is agreed, as it happens, for ever: another node goes on where one ends."""
        while True:
            async with self._opened("GET", "/v1/events", _last_event(after)) as answer:
                async for event in _events_of(answer):
                    after = int(event["index"])
                    yield event
            await asyncio.sleep(_PAUSE_S)

    # ------------------------------------------------------------ inside

    async def _ask(self, method: str, path: str, body: Json | None = None, *, key: str = "") -> Json:
        headers = {} if method == "GET" else {"Idempotency-Key": key or str(uuid.uuid4())}
        async with self._opened(method, path, headers, body) as answer:
            found: Json = await answer.json()
            return found

    def _opened(self, method: str, path: str, headers: dict[str, str], body: Json | None = None) -> _Opened:
        return _Opened(self, method, path, headers, body)

    async def open(self, method: str, path: str, headers: dict[str, str], body: Json | None) -> aiohttp.ClientResponse:
        """The first good answer; nodes are asked in turn while patience lasts. Raises ApiError."""
        end_s = time.monotonic() + self._patience_s
        while True:
            failure: ApiError | None = None
            for _ in range(len(self._urls)):
                try:
                    return await self._open_at(self._urls[0], method, path, headers, body)
                except ApiError as error:
                    failure = error
                    if error.kind not in (*_AGAIN, "unreachable"):
                        raise
                # The others first, the next time.
                self._urls.append(self._urls.pop(0))
            if failure is not None and time.monotonic() >= end_s:
                raise failure
            await asyncio.sleep(_PAUSE_S)

    async def _open_at(
        self, url: str, method: str, path: str, headers: dict[str, str], body: Json | None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise ApiError("the client is closed", hint="use it within `with`", kind="setup")
        shown = {**headers, "Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
        if path == "/v1/events":
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=EVENTS_S)
        where = url.partition("://")[2]
        asking = self._session.request(
            method,
            url + path,
            json=body,
            headers=shown,
            ssl=self._tls or True,
            allow_redirects=False,
            timeout=timeout,
        )
        try:
            answer = await self._while_alive(url, asking)
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            what = f"{where}: its certificate is not of this cluster: {why}"
            raise ApiError(what, hint="is authority.pem the one of this cluster?", kind="certificate") from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            what = f"{where}: no TLS 1.3 connection: {error}"
            raise ApiError(what, hint="is that the API of a node?", kind="certificate") from None
        except aiohttp.ClientConnectorDNSError:
            what = f"{where}: there is no address of that name"
            raise ApiError(what, hint="is the name right? an IP address will do", kind="unreachable") from None
        except aiohttp.ClientConnectorError as error:
            why = os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
            raise ApiError(f"{where}: {why}", hint="is the node's daemon running?", kind="unreachable") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            what = f"{where}: no answer: {str(error) or type(error).__name__}"
            hint = "is the node overloaded, or is that not the endpoint of its API?"
            raise ApiError(what, hint=hint, kind="unreachable") from None
        if answer.status >= 400:
            raise await _problem(answer, where)
        return answer

    async def _while_alive(
        self, url: str, asking: Coroutine[Any, Any, aiohttp.ClientResponse]
    ) -> aiohttp.ClientResponse:
        """An answer that may take long, of a node that answers short questions meanwhile. Raises what a question does,
        TimeoutError among it."""
        task = asyncio.ensure_future(asking)
        try:
            while not (await asyncio.wait({task}, timeout=SILENCE_S))[0]:
                await self._see_alive(url)
            return task.result()
        finally:
            task.cancel()
            # One that has failed meanwhile, too: what it says is of no interest any more.
            await asyncio.gather(task, return_exceptions=True)

    async def _see_alive(self, url: str) -> None:
        if self._session is None:
            return
        timeout = aiohttp.ClientTimeout(total=SILENCE_S)
        async with self._session.get(f"{url}/liveness", ssl=self._tls or True, timeout=timeout):
            pass  # Whatever it says: it says something.


class _Opened:
    """`async with` an answer: its connection is given back in the end."""

    def __init__(self, client: AsyncClient, method: str, path: str, headers: dict[str, str], body: Json | None) -> None:
        self._client = client
        self._request = (method, path, headers, body)
        self._answer: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._answer = await self._client.open(*self._request)
        return self._answer

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._answer is not None:
            self._answer.close()


async def _problem(answer: aiohttp.ClientResponse, where: str) -> ApiError:
    try:
        document = await answer.json(content_type=None)
        kind = str(document["type"]).removeprefix(_PROBLEM_PREFIX)
        what, hint = str(document["detail"]), str(document.get("hint", ""))
        errors = tuple(str(one) for one in document.get("errors", ()))
    except (aiohttp.ClientError, ValueError, KeyError, TypeError, AttributeError):
        what, kind = f"{where}: answers {answer.status} {answer.reason}", "failed"
        hint, errors = "is that the API of a node?", ()
    finally:
        answer.release()
    return ApiError(" ".join(what.split()), hint=hint, kind=kind, status=answer.status, errors=errors)


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


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that notices the death of the other end, also while it waits for a long answer."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 1),
        ("TCP_KEEPINTVL", 1),
        ("TCP_USER_TIMEOUT", int(SILENCE_S * 1000)),
    ):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def _last_event(after: int | None) -> dict[str, str]:
    return {} if after is None else {"Last-Event-ID": str(after)}


def _quoted(name: str) -> str:
    return quote(name, safe="@")


class Client:
    """`AsyncClient` for programs without an event loop; safe to use from several threads."""

    def __init__(
        self,
        endpoints: Sequence[str] = (),
        *,
        token: str = "",
        authority: str = "",
        patience_s: float = PATIENCE_S,
    ) -> None:
        """See `AsyncClient`."""
        self._client = AsyncClient(endpoints, token=token, authority=authority, patience_s=patience_s)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kagemusha-client", daemon=True)
        self._thread.start()
        self._run(self._client.__aenter__())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def create_mirrored_instance(self, program_id: str, config_file: str, nodes: Sequence[str] = ()) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.create_mirrored_instance(program_id, config_file, nodes))

    def get_instance_status(self, instance_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.get_instance_status(instance_id))

    def force_switchover(self, instance_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.force_switchover(instance_id))

    def get_instance_context(self, instance_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.get_instance_context(instance_id))

    def get_instance_structures(self, instance_id: str, name: str = "", elements: int = 0) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.get_instance_structures(instance_id, name, elements))

    def list_programs(self) -> list[Json]:
        """See `AsyncClient`."""
        return self._run(self._client.list_programs())

    def list_nodes(self) -> list[Json]:
        """See `AsyncClient`."""
        return self._run(self._client.list_nodes())

    def start_program(self, program_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.start_program(program_id))

    def stop_program(self, program_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.stop_program(program_id))

    def shutdown_program(self, program_id: str) -> Json:
        """See `AsyncClient.shutdown_program`."""
        return self._run(self._client.shutdown_program(program_id))

    def delete_program(self, program_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.delete_program(program_id))

    def pause_program(self, program_id: str, for_s: int = 3600) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.pause_program(program_id, for_s))

    def resume_program(self, program_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.resume_program(program_id))

    def force_failover(self, instance_id: str, *, force: bool = False) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.force_failover(instance_id, force=force))

    def drain_node(self, node: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.drain_node(node))

    def undrain_node(self, node: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.undrain_node(node))

    def set_log_level(self, node: str, level: str, for_s: int = 600) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.set_log_level(node, level, for_s))

    def get_history(self, program_id: str = "", limit: int = 100) -> list[Json]:
        """See `AsyncClient`."""
        return self._run(self._client.get_history(program_id, limit))

    def get_health(self) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.get_health())

    def _run(self, job: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def create_mirrored_instance(program_id: str, config_file: str) -> Json:
    """`Client.create_mirrored_instance`, with the environment's endpoints and token."""
    with Client() as client:
        return client.create_mirrored_instance(program_id, config_file)


def get_instance_status(instance_id: str) -> Json:
    """`Client.get_instance_status`, with the environment's endpoints and token."""
    with Client() as client:
        return client.get_instance_status(instance_id)


def force_switchover(instance_id: str) -> Json:
    """`Client.force_switchover`, with the environment's endpoints and token."""
    with Client() as client:
        return client.force_switchover(instance_id)
