"""A request that another node must answer: sent on as it is, and its answer brought back, so that any node will do.

The other node is known by its certificate: the token of the request is shown to nobody else. A request is sent on once;
where two nodes each take the other for the leader, the client hears that there is none at the moment.
"""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from cluster.admin.port import NotHere
from cluster.admin.problem import NO_LEADER, UNKNOWN_OUTCOME, ApiError
from transport.errors import PeerRefused

MARK: Final = "Kagemusha-Forwarded-By"
ANSWER_BYTES_MAX: Final = 16 << 20
CONNECT_S: Final = 2.0
ANSWER_S: Final = 70.0
_AGAIN: Final = "send it again, with the same Idempotency-Key if it had one"
_SENT_ON: Final = ("Authorization", "Content-Type", "Idempotency-Key")
_BROUGHT_BACK: Final = ("Content-Type", "Location", "Retry-After")


class Forwarder:
    """Asks other nodes. tls: verifies their certificates against the cluster's authority; None: plain HTTP (tests)."""

    def __init__(self, node: str, tls: ssl.SSLContext | None) -> None:
        self._node = node
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send_on(self, request: web.Request, body: bytes, to: NotHere) -> web.Response:
        """The other node's answer. Raises ApiError when it can't be had, PeerRefused when it is another one."""
        if MARK in request.headers:
            what = f"node {self._node} does not lead, and was asked because it did"
            raise ApiError(NO_LEADER, what, hint="a leader is being elected; try again")
        headers = CIMultiDict({name: request.headers[name] for name in _SENT_ON if name in request.headers})
        headers[MARK] = self._node
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
            raise ApiError(NO_LEADER, f"node {to.node} leads, but can't be reached", hint="try again") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            sort = NO_LEADER if request.method == "GET" else UNKNOWN_OUTCOME
            raise ApiError(sort, f"node {to.node} leads, and ended before it had answered", hint=_AGAIN) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        return self._session


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise aiohttp.ClientPayloadError("an answer that is too long")
    return bytes(content)
