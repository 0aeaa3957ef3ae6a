"""What the API can do: one table, from which the server, the OpenAPI document and the reference are made."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from cluster.admin import models, problem
from cluster.admin.auth import Scope
from cluster.admin.endpoint import Call, Endpoint, Query
from cluster.admin.models import Create
from cluster.admin.port import Cluster
from cluster.admin.problem import ApiError, Sort
from transport.structure_view import ELEMENTS_DEFAULT, ELEMENTS_MAX


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


async def _structures(cluster: Cluster, call: Call) -> BaseModel:
    elements = int(call.query.get("elements", ELEMENTS_DEFAULT))
    return await cluster.structures(call.parameters["instance"], call.query.get("name", ""), elements)


async def _programs(cluster: Cluster, call: Call) -> BaseModel:
    return models.ProgramList(programs=await cluster.programs())


async def _nodes(cluster: Cluster, call: Call) -> BaseModel:
    return models.NodeList(nodes=await cluster.nodes())


async def _start(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.start(call.parameters["program"], call.request_id)


async def _stop(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.stop(call.parameters["program"], call.request_id)


async def _shutdown(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.shutdown(call.parameters["program"], call.request_id)


async def _delete(cluster: Cluster, call: Call) -> BaseModel:
    await cluster.delete(call.parameters["program"], call.request_id)
    return models.Deleted(program=call.parameters["program"])


async def _pause(cluster: Cluster, call: Call) -> BaseModel:
    if not isinstance(call.body, models.Pause):
        raise TypeError("pause without its body")
    return await cluster.pause(call.parameters["program"], call.body.for_s, call.request_id)


async def _resume(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.resume(call.parameters["program"], call.request_id)


async def _failover(cluster: Cluster, call: Call) -> BaseModel:
    if not isinstance(call.body, models.Failover):
        raise TypeError("failover without its body")
    return await cluster.failover(call.parameters["instance"], call.body.force, call.request_id)


async def _drain(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.drain(call.parameters["node"], False, call.request_id)


async def _undrain(cluster: Cluster, call: Call) -> BaseModel:
    return await cluster.drain(call.parameters["node"], True, call.request_id)


async def _log_level(cluster: Cluster, call: Call) -> BaseModel:
    if not isinstance(call.body, models.LogLevelWish):
        raise TypeError("log-level without its body")
    node, wish = call.parameters["node"], call.body
    await cluster.set_log_level(node, wish.level, wish.for_s)
    return models.LogLevelSet(node=node, level=wish.level, for_s=wish.for_s)


async def _history(cluster: Cluster, call: Call) -> BaseModel:
    limit = int(call.query.get("limit", HISTORY_DEFAULT))
    return models.EventList(events=cluster.history(call.query.get("program", ""), limit))


async def _primary(cluster: Cluster, call: Call) -> BaseModel:
    return _here(cluster, cluster.primaries_here(call.query.get("program", "")), "no primary serves")


async def _replica(cluster: Cluster, call: Call) -> BaseModel:
    limit = call.query.get("max_lag")
    found = cluster.mirrors_here(call.query.get("program", ""), None if limit is None else float(limit))
    return _here(cluster, found, "no mirror is up to date" if limit is None else f"no mirror lags at most {limit} ms")


def _here(cluster: Cluster, found: tuple[str, ...], otherwise: str) -> BaseModel:
    node = cluster.health().node
    if not found:
        raise ApiError(problem.NOT_HERE, f"{otherwise} on node {node}", hint="ask another node")
    return models.Here(node=node, instances=found)


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

HISTORY_DEFAULT: Final = 100
_PROGRAM: Final = Query("program", "Of this program alone.")

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
        "/v1/instances/{instance}/structures",
        "get_instance_structures",
        "The named structures that an instance holds, with their age; the content of one, if it is named.",
        Scope.OPERATOR,
        models.StructuresView,
        _structures,
        problems=_OF_INSTANCE,
        query=(
            Query("name", "Show what is in this one, too."),
            Query("elements", "Of each array only so many, the first ones; 20 where it is not given.", ELEMENTS_MAX),
        ),
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
        "POST",
        "/v1/programs/{program}/shutdown",
        "shutdown_program",
        "End a program as `stop` does, because the whole cluster is to be shut down: what it holds in memory is lost "
        "with that. It is remembered that it is to be started again when the nodes are back.",
        Scope.OPERATOR,
        models.ProgramView,
        _shutdown,
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
        "POST",
        "/v1/programs/{program}/pause",
        "pause_program",
        "Maintenance: no failover of this program for a time; its primary and its mirrors go on.",
        Scope.OPERATOR,
        models.ProgramView,
        _pause,
        request=models.Pause,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "POST",
        "/v1/programs/{program}/resume",
        "resume_program",
        "Failover of this program again, before the time of its pause is over.",
        Scope.OPERATOR,
        models.ProgramView,
        _resume,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "POST",
        "/v1/instances/{instance}/failover",
        "force_failover",
        "Unplanned takeover by hand: a mirror, or the best one of a primary, goes on from the checkpoint that it "
        "holds. Refused while the primary serves, unless forced. Answers when the new one serves.",
        Scope.OPERATOR,
        models.Switchover,
        _failover,
        request=models.Failover,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "POST",
        "/v1/nodes/{node}/drain",
        "drain_node",
        "From now on no program comes to this node while another will do. Its primaries stay: switch them over.",
        Scope.OPERATOR,
        models.Drained,
        _drain,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "POST",
        "/v1/nodes/{node}/undrain",
        "undrain_node",
        "Programs may come to this node again.",
        Scope.OPERATOR,
        models.Drained,
        _undrain,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "POST",
        "/v1/nodes/{node}/log-level",
        "set_log_level",
        "How much a node logs, with its agents, for a time; then it is `info` again by itself.",
        Scope.ADMIN,
        models.LogLevelSet,
        _log_level,
        request=models.LogLevelWish,
        problems=_OF_CHANGE,
    ),
    Endpoint(
        "GET",
        "/v1/history",
        "get_history",
        "The newest of what was agreed, as the node that answers remembers it: its last thousand events.",
        Scope.VIEWER,
        models.EventList,
        _history,
        query=(_PROGRAM, Query("limit", f"At most so many, 1 to 1000; {HISTORY_DEFAULT} if not given.", 1000)),
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
    Endpoint(
        "GET",
        "/liveness",
        "get_liveness",
        "The daemon runs and answers, whatever it knows of the group: who gets no answer restarts it.",
        None,
        models.Health,
        _health,
    ),
    Endpoint(
        "GET",
        "/primary",
        "get_primary",
        "For load balancers: 200 on the node whose primary serves, 503 on the others.",
        None,
        models.Here,
        _primary,
        problems=(problem.NOT_HERE,),
        query=(_PROGRAM,),
    ),
    Endpoint(
        "GET",
        "/replica",
        "get_replica",
        "For load balancers: 200 on a node whose mirror is up to date, 503 on the others.",
        None,
        models.Here,
        _replica,
        problems=(problem.NOT_HERE,),
        query=(_PROGRAM, Query("max_lag", "And whose checkpoint is not older than so many milliseconds.", 10**9)),
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
    if endpoint.parameters or endpoint.query or endpoint.operation == "follow_events":
        sorts.add(problem.INVALID)
    return tuple(sorted(sorts, key=lambda sort: (sort.status, sort.word)))
