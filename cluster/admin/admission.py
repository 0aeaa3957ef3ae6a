"""Whether a program can be created: its file means the same on every node, and nothing stands in the way on any."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from cluster.admin.models import Create
from cluster.admin.port import FilesDiffer, Unfit
from cluster.node.messages import AnswerBody, CheckProgram, OrderBody, ProgramChecked, ProgramRead, ReadProgram
from cluster.node.peers import OrderLost
from cluster.node.program import CompareNodes
from cluster.registry.values import NodeId
from transport.errors import ConfigError, KagemushaError, PreflightError

Ask = Callable[[NodeId, OrderBody, float], Awaitable[AnswerBody]]
"""Asks a node for what changes nothing, within so many seconds. Raises KagemushaError."""
READ_S: Final = 5.0
PREFLIGHT_S: Final = 30.0


async def same_file(ask: Ask, request: Create, nodes: Sequence[NodeId]) -> ProgramRead:
    """What the program's file says, the same on all of its nodes. Raises FilesDiffer, ConfigError, Unfit."""
    path = request.config_file
    answers = await _ask_all(ask, ReadProgram(path), nodes, READ_S)
    read = {node: one for node, one in answers.items() if isinstance(one, ProgramRead)}
    for node, error in answers.items():
        if isinstance(error, KagemushaError):
            if read:
                hint = "; ".join(filter(None, (error.hint, f"it can be used on node {next(iter(read))}")))
                raise FilesDiffer(f"node {node}: {error.what}", hint=hint)
            raise ConfigError(f"node {node}: {error.what}", hint=error.hint)
    first = read[nodes[0]]
    if first.program != request.program_id:
        what = f"{path}: defines program {first.program}, not {request.program_id}"
        raise ConfigError(what, hint="[program] id is its name")
    for node in nodes[1:]:
        if read[node] != first:
            what = f"{path}: does not say the same on node {node} as on node {nodes[0]}"
            raise FilesDiffer(what, hint="copy the right one to all nodes")
    return first


async def require_mirrorable(ask: Ask, path: str, nodes: Sequence[NodeId], compare: CompareNodes) -> None:
    """Raise PreflightError for the first thing that stands in the way on a node, or in which a node differs from the
    first one so that a mirror on it could not go on; Unfit for one that does not say."""
    answers = await _ask_all(ask, CheckProgram(path), nodes, PREFLIGHT_S)
    for node, error in answers.items():
        if isinstance(error, KagemushaError):
            raise PreflightError(f"node {node}: {error.what}", hint=error.hint)
    checked = {node: one for node, one in answers.items() if isinstance(one, ProgramChecked)}
    found = {node: one.reasons for node, one in checked.items() if one.reasons}
    for node, reasons in found.items():
        what, hint = reasons[0]
        more = sum(map(len, found.values())) - 1
        rest = f"{more} more: kagemusha preflight {path}, on {', '.join(found)}" if more else ""
        raise PreflightError(f"node {node}: {what}", hint="; ".join(filter(None, (hint, rest))))
    _require_alike(checked, nodes, compare)


def _require_alike(checked: Mapping[NodeId, ProgramChecked], nodes: Sequence[NodeId], compare: CompareNodes) -> None:
    """Each may become the primary of each other; who is like the first one is like all that are."""
    first = nodes[0]
    for node in nodes[1:]:
        reasons = compare(first, checked[first].facts, node, checked[node].facts)
        if reasons:
            what, hint = reasons[0]
            more = f" (and {len(reasons) - 1} more differences)" if len(reasons) > 1 else ""
            raise PreflightError(
                f"node {node} could not go on with what runs on node {first}: {what}{more}",
                hint="; ".join(filter(None, (hint, "or leave the node out: kagemusha create --node"))),
            )


async def _ask_all(
    ask: Ask, order: OrderBody, nodes: Sequence[NodeId], limit_s: float
) -> dict[NodeId, AnswerBody | KagemushaError]:
    """The answer of each node, or what it refused with. Raises Unfit for one that can't be asked."""
    found = await asyncio.gather(*(ask(node, order, limit_s) for node in nodes), return_exceptions=True)
    answers: dict[NodeId, AnswerBody | KagemushaError] = {}
    for node, one in zip(nodes, found, strict=True):
        if isinstance(one, OrderLost):
            raise Unfit(f"the program's file can't be looked at on node {node}: {one.what}", hint=one.hint)
        if isinstance(one, BaseException) and not isinstance(one, KagemushaError):
            raise one
        answers[node] = one
    return answers
