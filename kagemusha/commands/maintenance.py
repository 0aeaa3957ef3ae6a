"""`kagemusha pause`, `resume`, `drain`, `undrain`, `failover`: what an operator does around work on a node."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from kagemusha.commands.cluster_access import (
    Authority,
    Endpoints,
    InstanceArgument,
    Output,
    ProgramArgument,
    TokenFile,
    Yes,
    ask,
    confirm,
    note,
    show,
    show_program,
)

if TYPE_CHECKING:
    from kagemusha.client import AsyncClient

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

NodeArgument = Annotated[str, typer.Argument(help="Id of the node.")]


def pause(
    program: ProgramArgument,
    time: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long: 30s, 10m, 1h, 2d; 7d at most. Then it resumes.")
    ] = "1h",
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Maintenance: no failover of a program for a time. Its primary and its mirrors go on."""
    for_s = seconds_of(time)
    show_program((endpoint, token_file, authority), lambda one: one.pause_program(program, for_s), output)


def resume(
    program: ProgramArgument,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """End a pause: failover of a program again. One whose primary was lost meanwhile is taken over at once."""
    show_program((endpoint, token_file, authority), lambda one: one.resume_program(program), output)


def failover(
    instance: InstanceArgument,
    force: Annotated[bool, typer.Option("--force", help="Though the primary serves: it is fenced first.")] = False,
    yes: Yes = False,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Have a mirror take over, unplanned: it goes on from the checkpoint that it holds. What came after it is lost.

    A primary's id stands for its best mirror. While the primary serves this is refused without --force:
    `kagemusha switchover` loses nothing.
    """
    from kagemusha import cluster_tables

    access = (endpoint, token_file, authority)
    if force and not yes:
        note(ask(access, lambda one: _loss(one, instance)))
        confirm("Do it?", f"force a failover to {instance}")
    show(access, lambda one: one.force_failover(instance, force=force), output, cluster_tables.switchover)


async def _loss(one: AsyncClient, instance: str) -> str:
    """What a takeover by this instance, or of this primary, would lose, in one line."""
    from kagemusha import cluster_tables

    status = await one.get_instance_status(instance)
    who = f"the best mirror of {instance}" if status["role"] == "primary" else instance
    if status["lag_ms"] is None:
        return f"{who} holds no checkpoint yet"
    age = cluster_tables.age(status["lag_ms"])
    return f"{who} holds a checkpoint {age} old: what {status['program']} did since then will be lost"


def drain(
    node: NodeArgument,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Empty a node before work on it: its primaries are handed over, and no program comes to it while another will do.

    Its mirrors stay, for as long as it runs. `kagemusha undrain` ends it.
    """

    ask((endpoint, token_file, authority), lambda one: empty(one, node))
    note(f"node {node} is drained: it serves no program, and none comes to it while another node will do")


async def empty(one: AsyncClient, node: str) -> None:
    """Drain a node and hand its primaries over, each of them: one that can't be leaves no other behind. Raises the
    first ApiError."""
    from kagemusha.client import ApiError

    failures = []
    for instance in (await one.drain_node(node))["primaries"]:
        try:
            done = await one.force_switchover(instance)
        except ApiError as error:
            note(f"{instance} stays: {error.what}")
            failures.append(error)
        else:
            note(f"{done['new']} serves; {done['old']} let go")
    if failures:
        raise failures[0]


def undrain(
    node: NodeArgument,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """End a drain: programs may come to this node again. None is moved."""
    ask((endpoint, token_file, authority), lambda one: one.undrain_node(node))
    note(f"programs may come to node {node} again")


def seconds_of(time: str) -> int:
    """Seconds of "90s", "10m", "1h" or "2d". Raises typer.BadParameter."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", time)
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{time} is no time; like 30s, 10m, 1h or 2d", param_hint="'--for'")
    return int(found[1]) * _UNITS_S[found[2]]
