"""The HTTP server of a node: checks who asks and what, asks the cluster, and makes one answer of whatever comes of it.

Every answer that is no success is a problem document. Requests are bounded in size, number and time; nothing of a token
or of a body stands in a log.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from cluster.admin import problem
from cluster.admin.auth import Bearer, Scope, Tokens, require
from cluster.admin.endpoint import Call, Endpoint, check_parameters, query_of
from cluster.admin.event_stream import EventStream
from cluster.admin.forward import Forwarder, NoAnswer
from cluster.admin.idempotency import HEADER, Answered, Idempotency, Ticket
from cluster.admin.metrics import CONTENT_TYPE, Metrics
from cluster.admin.openapi import document
from cluster.admin.port import Cluster, NotHere
from cluster.admin.problem import ApiError, mistakes, problem_of, sort_of
from cluster.admin.request_body import BODY_BYTES_MAX, json_of
from cluster.admin.routes import ENDPOINTS
from cluster.raft.errors import NoQuorum
from transport.errors import ConfigError, KagemushaError

log = structlog.get_logger()

BODY_S_MAX: Final = 10.0
ANSWER_S_MAX: Final = 60.0
REQUESTS_MAX: Final = 64
ELECTION_S_MAX: Final = 3.0
"""A request that was sent to a leader which is no more waits for the next one for so long."""
_AGAIN_S: Final = 0.05
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "kagemusha"}

_ANYBODY: Final = Bearer("anybody", Scope.VIEWER)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the API of a node is given. host, port: where it listens; port 0: any. tls: its side of HTTPS; others: how
    it knows other nodes. None: plain HTTP, for tests and a machine of its own."""

    node: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    others: ssl.SSLContext | None = None


def contexts_of(pki: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """`Settings.tls` and `Settings.others` from the directory that `kagemusha pki issue` wrote. Raises ConfigError."""
    from transport.pki import AUTHORITY_CERTIFICATE

    own, others = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        present(own, pki)
        others.load_verify_locations(pki / AUTHORITY_CERTIFICATE)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{pki}: no certificate for HTTPS: {error}", hint="kagemusha pki issue writes it") from None
    for context in (own, others):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return own, others


def present(context: ssl.SSLContext, pki: Path) -> None:
    """Show the node's certificate of this directory from the next handshake on. Raises OSError, ssl.SSLError."""
    from transport.pki import NODE_CERTIFICATE, NODE_KEY

    context.load_cert_chain(pki / NODE_CERTIFICATE, pki / NODE_KEY)


class Api:
    """The API of one node. Use `start`, then `close`."""

    def __init__(self, cluster: Cluster, tokens: Tokens, settings: Settings) -> None:
        self._cluster = cluster
        self._tokens = tokens
        self._settings = settings
        self._idempotency = Idempotency()
        self._metrics = Metrics(settings.node)
        self._stream = EventStream(cluster)
        self._forwarder = Forwarder(settings.node, settings.others)
        self._under_way = 0
        self._runner: web.AppRunner | None = None
        self._openapi = json.dumps(document()).encode()
        self._special: dict[str, Handler] = {
            "follow_events": self._stream.serve,
            "get_metrics": self._serve_metrics,
            "get_openapi": self._serve_openapi,
        }

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._runner is None:
            raise RuntimeError("the API has not started yet")
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen. Raises ConfigError when the endpoint can't be used."""
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._explain])
        for endpoint in ENDPOINTS:
            app.router.add_route(endpoint.method, endpoint.path, self._handler(endpoint))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=30.0)
        await self._runner.setup()
        where = f"{self._settings.host}:{self._settings.port}"
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port, ssl_context=self._settings.tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            what = f"{where}: the API can't listen there: {error.strerror or error}"
            raise ConfigError(what, hint="is another daemon running? see admin of this node in node.toml") from None

    def renew(self, pki: Path) -> None:
        """Go by the certificates that are in the directory now, from the next connection on. Raises ConfigError, and
        changes nothing then."""
        _, others = contexts_of(pki)
        if self._settings.tls is not None:
            present(self._settings.tls, pki)
            self._forwarder.trust(others)

    async def close(self) -> None:
        """Stop to listen; event streams end, requests under way have a second."""
        self._stream.close()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._forwarder.close()

    # ------------------------------------------------------------ errors

    @web.middleware
    async def _explain(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whatever was raised becomes a problem document."""
        try:
            answer = await handler(request)
        except KagemushaError as error:
            answer = self._problem(error)
        except web.HTTPMethodNotAllowed as error:
            methods = ", ".join(sorted(error.allowed_methods))
            refused = ApiError(problem.NO_METHOD, f"{request.path[:100]} has no {request.method[:20]}", hint=methods)
            answer = self._problem(refused)
            answer.headers["Allow"] = methods
        except web.HTTPNotFound:
            what = f"{request.path[:100]} is no page of this API"
            answer = self._problem(ApiError(problem.NO_PAGE, what, hint="GET /openapi.json lists them all"))
        except web.HTTPRequestEntityTooLarge:
            answer = self._problem(ApiError(problem.TOO_LONG, f"a body has at most {BODY_BYTES_MAX} bytes"))
        except Exception as error:
            log.error("a request failed by a mistake", path=request.path, exc_info=error)
            what = f"{type(error).__name__} in {request.method} {request.path[:100]}"
            answer = self._problem(ApiError(problem.INTERNAL, what, hint="the node's log says more"))
        if not answer.prepared:
            answer.headers.update(_HEADERS)
        return answer

    def _problem(self, error: KagemushaError) -> web.Response:
        sort = sort_of(error)
        body = problem_of(error).model_dump_json().encode()
        answer = web.Response(status=sort.status, body=body, content_type=problem.MEDIA_TYPE)
        if sort is problem.UNAUTHENTICATED:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="kagemusha"'
        if sort.retry_after_s is not None:
            answer.headers["Retry-After"] = str(sort.retry_after_s)
        return answer

    # ------------------------------------------------------------ requests

    def _handler(self, endpoint: Endpoint) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            start_s, status = time.monotonic(), 500
            try:
                answer = await self._admit(endpoint, request)
                status = answer.status
                return answer
            except KagemushaError as error:
                status = sort_of(error).status
                raise
            finally:
                self._metrics.answered(endpoint.operation, status, time.monotonic() - start_s)

        return handle

    async def _admit(self, endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
        """Who asks, and may they; then on. Nothing of the request is believed before."""
        bearer = _ANYBODY
        if endpoint.scope is not None:
            bearer = self._tokens.bearer_of(request.headers.get("Authorization"))
            require(bearer, endpoint.scope)
        check_parameters(request.match_info)
        special = self._special.get(endpoint.operation)
        if special is not None:
            return await special(request)
        if self._under_way >= REQUESTS_MAX:
            raise ApiError(problem.BUSY_NODE, f"{REQUESTS_MAX} requests are under way", hint="try again")
        self._under_way += 1
        try:
            return await self._answer(endpoint, request, bearer)
        finally:
            self._under_way -= 1

    async def _answer(self, endpoint: Endpoint, request: web.Request, bearer: Bearer) -> web.StreamResponse:
        query = query_of(endpoint, request.query.items())
        body = await self._body(request)
        value = self._value(endpoint, request, body)
        ticket = Ticket("", "")
        if endpoint.changes:
            key = request.headers.get(HEADER)
            ticket = self._idempotency.begin(bearer.name, key, request.method, request.path, body)
            if ticket.answer is not None:
                return _response(ticket.answer)
        call = Call(request.match_info, value, ticket.request_id, query)
        answered: Answered | None = None
        try:
            carried_out = await self._carry_out(endpoint, request, body, call, ticket.key)
            if isinstance(carried_out, web.Response):
                return carried_out
            answered = carried_out
        except KagemushaError as error:
            self._note(endpoint, request, bearer, ticket, sort_of(error).word)
            raise
        finally:
            self._idempotency.end(ticket, answered)
        self._note(endpoint, request, bearer, ticket, "done")
        return _response(answered)

    async def _carry_out(
        self, endpoint: Endpoint, request: web.Request, body: bytes, call: Call, key: str
    ) -> Answered | web.Response:
        """Here, or where the leader is; when that one is lost before its answer, where the next one is. By the key that
        is the same request everywhere, so it is not done twice."""
        lost: NoAnswer | None = None
        end_s = float("inf")
        while True:
            try:
                answer = await self._ask(endpoint, call)
                return Answered(endpoint.status, answer.model_dump_json().encode(), _location(answer, endpoint))
            except NotHere as to:
                try:
                    gone = self._cluster.leads_no_more(to.node)
                    sent_on = await self._forwarder.send_on(request, body, to, key, gone)
                    if lost is None or sent_on.status != problem.NO_LEADER.status:
                        return sent_on
                except NoAnswer as error:
                    # What is not known of the first one is not known in the end.
                    lost, end_s = (error, time.monotonic() + ELECTION_S_MAX) if lost is None else (lost, end_s)
            except NoQuorum:
                if lost is None:
                    raise
            if lost is not None and time.monotonic() >= end_s:
                raise lost
            await asyncio.sleep(_AGAIN_S)

    def _note(self, endpoint: Endpoint, request: web.Request, bearer: Bearer, ticket: Ticket, outcome: str) -> None:
        """Who changed what stands in the log; who looked does not."""
        if endpoint.changes:
            log.info(
                "asked over the API",
                operation=endpoint.operation,
                of=next(iter(request.match_info.values()), ""),
                asked_by=bearer.name,
                request=ticket.request_id,
                outcome=outcome,
            )

    async def _ask(self, endpoint: Endpoint, call: Call) -> BaseModel:
        if endpoint.run is None:
            raise RuntimeError(f"{endpoint.operation} has no handler")
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await endpoint.run(self._cluster, call)
        except TimeoutError:
            sort = problem.UNKNOWN_OUTCOME if endpoint.changes else problem.AGENT
            raise ApiError(sort, f"no answer of the cluster within {ANSWER_S_MAX:g} s") from None

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(BODY_S_MAX):
                return await request.read()
        except TimeoutError:
            raise ApiError(problem.UNREADABLE, f"the body did not come within {BODY_S_MAX:g} s") from None

    def _value(self, endpoint: Endpoint, request: web.Request, body: bytes) -> BaseModel | None:
        if endpoint.request is None:
            if body:
                raise ApiError(problem.INVALID, f"{endpoint.operation} takes no body", hint="leave it out")
            return None
        if request.content_type != "application/json":
            hint = "Content-Type: application/json"
            raise ApiError(problem.MEDIA, f"a body of type {request.content_type[:60]} can't be read", hint=hint)
        value = json_of(body)
        try:
            return endpoint.request.model_validate(value)
        except ValidationError as error:
            found = mistakes(error)
            more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
            hint = "GET /openapi.json has the schema"
            raise ApiError(problem.INVALID, found[0] + more, hint=hint, errors=found) from None

    # ------------------------------------------------------------ pages of their own

    async def _serve_openapi(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._openapi, content_type="application/json")

    async def _serve_metrics(self, request: web.Request) -> web.StreamResponse:
        text = self._metrics.text(await self._cluster.samples(), self._cluster.tally)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})


def _response(answered: Answered) -> web.Response:
    headers = {"Location": answered.location} if answered.location else {}
    return web.Response(status=answered.status, body=answered.body, content_type="application/json", headers=headers)


def _location(answer: BaseModel, endpoint: Endpoint) -> str:
    """Of what was created: the instance that is the primary, or will be."""
    instances = getattr(answer, "instances", ())
    if endpoint.status != 201 or not instances:
        return ""
    first = next((one for one in instances if one.role == "primary"), instances[0])
    return f"/v1/instances/{first.instance}"
