"""A request that another node must answer: sent on as it is, and its answer brought back, so that any node will do.

The other node is known by its certificate: the token of the request is shown to nobody else. Nobody sends on what was
sent on to it: where two nodes each take the other for the leader, the client hears that there is none at the moment. A
daemon may hang while its kernel says that all is well, so an answer is waited for only as long as that node leads.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from cluster.admin.idempotency import HEADER
from cluster.admin.port import NotHere
from cluster.admin.problem import NO_LEADER, UNKNOWN_OUTCOME, ApiError, Sort
from transport.errors import PeerRefused

MARK: Final = "Kagemusha-Forwarded-By"
ANSWER_BYTES_MAX: Final = 16 << 20
CONNECT_S: Final = 2.0
ANSWER_S: Final = 70.0
_AGAIN: Final = "send it again, with the same Idempotency-Key if it had one"
_SENT_ON: Final = ("Authorization", "Content-Type")
_BROUGHT_BACK: Final = ("Content-Type", "Location", "Retry-After")


class NoAnswer(ApiError):
    """The other node can't be reached, has ended or leads no more: the same may be asked of whoever leads next."""


class Forwarder:
    """Asks other nodes. tls: verifies their certificates against the cluster's authority; None: plain HTTP (tests)."""

    def __init__(self, node: str, tls: ssl.SSLContext | None) -> None:
        self._node = node
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    def trust(self, tls: ssl.SSLContext) -> None:
        """Verify other nodes by this from now on."""
        self._tls = tls

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send_on(
        self, request: web.Request, body: bytes, to: NotHere, key: str, leads_no_more: Coroutine[Any, Any, None]
    ) -> web.Response:
        """The other node's answer. key: of a request that changes something, else "". leads_no_more: returns when the
        other node has nothing to say any more. Raises NoAnswer, PeerRefused when it is another node, ApiError."""
        asking = asyncio.create_task(self._ask(request, body, to, key))
        watching = asyncio.create_task(leads_no_more)
        try:
            await asyncio.wait({asking, watching}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            raise NoAnswer(_sort(key), f"node {to.node} was asked, and leads no more or is not heard", hint=_AGAIN)
        finally:
            asking.cancel()
            watching.cancel()
            await asyncio.gather(asking, watching, return_exceptions=True)

    async def _ask(self, request: web.Request, body: bytes, to: NotHere, key: str) -> web.Response:
        if MARK in request.headers:
            what = f"node {self._node} does not lead, and was asked because it did"
            raise ApiError(NO_LEADER, what, hint="a leader is being elected; try again")
        headers = CIMultiDict({name: request.headers[name] for name in _SENT_ON if name in request.headers})
        headers[MARK] = self._node
        if key:
            headers[HEADER] = key
        scheme = "http" if self._tls is None else "https"
        try:
            async with self._open().request(
                request.method,
                f"{scheme}://{to.admin}{request.rel_url.raw_path_qs}",
                data=body or None,
                headers=headers,
                ssl=True if self._tls is None else self._tls,
                server_hostname=None if self._tls is None else to.node,
                allow_redirects=False,
            ) as answer:
                content = await _whole(answer)
                kept = {name: answer.headers[name] for name in _BROUGHT_BACK if name in answer.headers}
                return web.Response(status=answer.status, body=content, headers=kept)
        except aiohttp.ClientConnectorCertificateError as error:
            what = f"{to.admin}: its certificate is not that of node {to.node}"
            raise PeerRefused(what, hint="issue it again with `kagemusha pki issue`") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NoAnswer(NO_LEADER, f"node {to.node} leads, but can't be reached", hint="try again") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswer(
                _sort(key), f"node {to.node} leads, and ended before it had answered", hint=_AGAIN
            ) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        return self._session


def _sort(key: str) -> Sort:
    """Whoever has got a request that changes something may have done it."""
    return UNKNOWN_OUTCOME if key else NO_LEADER


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise aiohttp.ClientPayloadError("an answer that is too long")
    return bytes(content)
