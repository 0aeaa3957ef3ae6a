"""The nodes of a cluster, of which any will do: asked in turn, while patience lasts, until one answers.

A node that hangs in the middle of a request is passed over as one that is gone is, and one that is busy is waited for.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiohttp.connector import NEEDS_CLEANUP_CLOSED

from kagemusha.client.access import Access, ApiError, tls_of

CONNECT_S: Final = 2.0
ANSWER_S: Final = 90.0
SILENCE_S: Final = 3.0
"""A node that acknowledges nothing for so long is gone, though it may never have said so (tcp(7), TCP_USER_TIMEOUT). A
daemon that hangs has a kernel that does acknowledge: one whose answer takes longer is asked whether it lives."""
EVENTS_S: Final = 20.0
"""A stream of events says something every 15 s, if only that there is nothing new."""
PAUSE_S: Final = 0.2
"""Between two rounds."""
_AGAIN: Final = ("no-leader", "no-quorum", "overloaded", "unknown-outcome", "key-in-use")
_EVENTS: Final = "/v1/events"
"""The one answer that never ends."""
_PROBLEM_PREFIX: Final = "urn:kagemusha:"

Json = dict[str, Any]


class Nodes:
    """Where the API is asked, and as whom. Every method may raise ApiError. To be opened before, and closed after."""

    def __init__(self, access: Access, patience_s: float) -> None:
        """patience_s: how long a request is sent again while there is no leader, no quorum, or no node that answers."""
        self._urls = access.urls()
        self._token = access.token
        self._patience_s = patience_s
        self._tls = tls_of(access.authority) if any(url.startswith("https:") for url in self._urls) else None
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Connections may be made from now on, in this event loop."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
        # Without it a connection to a node that hangs, and takes no leave, outlives the client by half a minute.
        connector = aiohttp.TCPConnector(socket_factory=_socket, enable_cleanup_closed=NEEDS_CLEANUP_CLOSED)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, method: str, path: str, body: Json | None = None, *, key: str = "") -> Json:
        """The answer to a request, which carries a key if it changes something: it may be sent more than once."""
        headers = {} if method == "GET" else {"Idempotency-Key": key or str(uuid.uuid4())}
        async with self.answer(method, path, headers, body) as answer:
            found: Json = await answer.json()
            return found

    @asynccontextmanager
    async def answer(
        self, method: str, path: str, headers: dict[str, str], body: Json | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The first good answer; its connection is given back in the end."""
        answer = await self._first(method, path, headers, body)
        try:
            yield answer
        finally:
            answer.close()

    async def _first(
        self, method: str, path: str, headers: dict[str, str], body: Json | None
    ) -> aiohttp.ClientResponse:
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
            await asyncio.sleep(PAUSE_S)

    async def _open_at(
        self, url: str, method: str, path: str, headers: dict[str, str], body: Json | None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise ApiError("the client is closed", hint="use it within `with`", kind="setup")
        shown = {**headers, "Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
        if path == _EVENTS:
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=EVENTS_S)
        where = url.partition("://")[2]
        asked = self._session.request(
            method,
            url + path,
            json=body,
            headers=shown,
            ssl=self._tls or True,
            allow_redirects=False,
            timeout=timeout,
        )
        asking = asked if path == _EVENTS else _whole(asked)
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


async def _whole(asking: Coroutine[Any, Any, aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
    """An answer that has come to its end: a node may die in the middle of it, and is passed over then as any other."""
    answer = await asking
    await answer.read()
    return answer


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
