"""What the API can do: one table, from which the server, the OpenAPI document and the reference are made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from cluster.admin import models, problem
from cluster.admin.auth import Scope
from cluster.admin.models import Create
from cluster.admin.port import Cluster
from cluster.admin.problem import ApiError, Sort


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked. parameters: of the path. body: None where the endpoint takes none."""

    parameters: Mapping[str, str]
    body: BaseModel | None
    request_id: str


Run = Callable[[Cluster, Call], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that the API can do.

    operation: its name, in OpenAPI and in metrics. scope: None where no token is needed. answer: None where it is no
    JSON; media: what it is. problems: sorts of its own, besides those that every endpoint may have. run: None where
    `cluster.admin.app` has a handler of its own.
    """

    method: str
    path: str
    operation: str
    summary: str
    scope: Scope | None
    answer: type[BaseModel] | None
    run: Run | None = None
    request: type[BaseModel] | None = None
    status: int = 200
    media: str = "application/json"
    problems: tuple[Sort, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether it changes anything: then it takes an Idempotency-Key."""
        return self.method != "GET"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of what stands in its path."""
        return tuple(re.findall(r"{(\w+)}", self.path))


PATTERNS: Final = {"instance": models.INSTANCE_PATTERN, "program": models.PROGRAM_PATTERN}
EXAMPLES: Final = {"instance": "redis@a", "program": "redis"}


def check_parameters(parameters: Mapping[str, str]) -> None:
    """Raise ApiError unless everything in the path is of its form."""
    for name, value in parameters.items():
        # `$` also matches before a newline at the end.
        if not re.fullmatch(PATTERNS[name].strip("^$"), value):
            hint = f"like {EXAMPLES[name]}; `kagemusha list` shows all"
            raise ApiError(problem.INVALID, f"{value[:140]!r} is {models.SHAPES[PATTERNS[name]]}", hint=hint)


async def _create(cluster: Cluster, call: Call) -> BaseModel:
    if not isinstance(call.body, Create):
        raise TypeError("create without its body")
    return await cluster.create(call.body, call.request_id)


async def _status(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.status(call.parameters["instance"])


async def _switchover(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.switchover(call.parameters["instance"], call.request_id)


async def _context(cluster: Cluster, call: Call) -> BaseModel:
    return models.ContextView(context=await cluster.context(call.parameters["instance"]))


async def _programs(cluster: Cluster, call: Call) -> BaseModel:
    return models.ProgramList(programs=await cluster.programs())


async def _nodes(cluster: Cluster, call: Call) -> BaseModel:
    return models.NodeList(nodes=await cluster.nodes())


async def _start(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.start(call.parameters["program"], call.request_id)


async def _stop(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.stop(call.parameters["program"], call.request_id)


async def _delete(cluster: Cluster, call: Call) -> BaseModel:
    await cluster.delete(call.parameters["program"], call.request_id)
    return models.Deleted(program=call.parameters["program"])


async def _health(cluster: Cluster, call: Call) -> BaseModel:
    return cluster.health()


async def _readiness(cluster: Cluster, call: Call) -> BaseModel:
    health = cluster.health()
    if health.quorum and health.leader:
        return health
    missing = f": not heard from {', '.join(health.missing)}" if health.missing else ""
    sort = problem.NO_LEADER if health.quorum else problem.NO_QUORUM
    what = "no leader" if health.quorum else "no quorum"
    raise ApiError(sort, f"node {health.node} has {what}{missing}", hint="it answers again when the nodes are back")


_OF_INSTANCE: Final = (problem.UNKNOWN, problem.UNFIT, problem.AGENT)
_OF_CHANGE: Final = (problem.UNKNOWN, problem.BUSY, problem.UNFIT, problem.AGENT, problem.DISK)

ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/instances",
        "create_mirrored_instance",
        "Mirror a program from now on: one instance on each node, started on the first of them.",
        Scope.ADMIN,
        models.ProgramView,
        _create,
        request=Create,
        status=201,
        problems=(
            problem.EXISTS,
            problem.UNKNOWN,
            problem.FILES_DIFFER,
            problem.CONFIG,
            problem.PREFLIGHT,
            problem.DISK,
        ),
    ),
    Endpoint(
        "GET",
        "/v1/instances/{instance}",
        "get_instance_status",
        "What an instance is doing: role, status, checkpoint, lag, token, age of the lease, pauses, mirrors.",
        Scope.VIEWER,
        models.InstanceView,
        _status,
        problems=_OF_INSTANCE,
    ),
    Endpoint(
        "POST",
        "/v1/instances/{instance}/switchover",
        "force_switchover",
        "Planned takeover: a mirror becomes the primary, a primary hands over to its best mirror. Answers when it "
        "serves.",
        Scope.OPERATOR,
        models.Switchover,
        _switchover,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "GET",
        "/v1/instances/{instance}/context",
        "get_instance_context",
        "What is mirrored, made visible: threads with their stacks, handlers, descriptors, connections, memory map. "
        "Never their contents.",
        Scope.VIEWER,
        models.ContextView,
        _context,
        problems=_OF_INSTANCE,
    ),
    Endpoint(
        "GET",
        "/v1/programs",
        "list_programs",
        "All programs and their instances.",
        Scope.VIEWER,
        models.ProgramList,
        _programs,
    ),
    Endpoint(
        "POST",
        "/v1/programs/{program}/start",
        "start_program",
        "Start a program that was stopped, or that failed and was left so.",
        Scope.OPERATOR,
        models.ProgramView,
        _start,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "POST",
        "/v1/programs/{program}/stop",
        "stop_program",
        "End a program on every node, in order; it is kept and can be started again. Answers when it has ended.",
        Scope.OPERATOR,
        models.ProgramView,
        _stop,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "DELETE",
        "/v1/programs/{program}",
        "delete_program",
        "End a program on every node and forget it.",
        Scope.ADMIN,
        models.Deleted,
        _delete,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "GET",
        "/v1/nodes",
        "list_nodes",
        "All nodes, as the one that answers sees them.",
        Scope.VIEWER,
        models.NodeList,
        _nodes,
    ),
    Endpoint(
        "GET",
        "/v1/events",
        "follow_events",
        "What is agreed, as it happens: server-sent events. `Last-Event-ID` asks for what came after it first.",
        Scope.VIEWER,
        None,
        media="text/event-stream",
    ),
    Endpoint(
        "GET",
        "/metrics",
        "get_metrics",
        "Metrics of this node, its instances and its API, for Prometheus.",
        Scope.VIEWER,
        None,
        media="text/plain",
    ),
    Endpoint(
        "GET",
        "/health",
        "get_health",
        "This node is alive; and what it knows of the group.",
        None,
        models.Health,
        _health,
    ),
    Endpoint(
        "GET",
        "/readiness",
        "get_readiness",
        "The same, but 503 while there is no quorum or no leader: a rolling upgrade waits for it.",
        None,
        models.Health,
        _readiness,
        problems=(problem.NO_QUORUM, problem.NO_LEADER),
    ),
    Endpoint("GET", "/openapi.json", "get_openapi", "The OpenAPI document of this API.", None, None),
)

ANYWHERE: Final = (problem.UNREADABLE, problem.LIMIT, problem.FAILED, problem.INTERNAL, problem.BUSY_NODE)
WITH_TOKEN: Final = (
    problem.UNAUTHENTICATED,
    problem.FORBIDDEN,
    problem.NO_QUORUM,
    problem.NO_LEADER,
    problem.UNKNOWN_OUTCOME,
    problem.PEER,
)
WITH_BODY: Final = (problem.TOO_LONG, problem.MEDIA, problem.INVALID)
WITH_KEY: Final = (problem.KEY_IN_USE, problem.KEY_REUSED, problem.INVALID, problem.TOO_LONG)


def problems_of(endpoint: Endpoint) -> tuple[Sort, ...]:
    """All sorts of problems that an endpoint may have, by status and then by word."""
    sorts = {*ANYWHERE, *endpoint.problems}
    if endpoint.scope is not None:
        sorts.update(WITH_TOKEN)
    if endpoint.request is not None:
        sorts.update(WITH_BODY)
    if endpoint.changes:
        sorts.update(WITH_KEY)
    if endpoint.parameters or endpoint.operation == "follow_events":
        sorts.add(problem.INVALID)
    return tuple(sorted(sorts, key=lambda sort: (sort.status, sort.word)))
