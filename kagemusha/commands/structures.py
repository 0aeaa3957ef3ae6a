"""`kagemusha structures`: the named data structures that an instance holds, and what is in one of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagemusha.commands.agent_access import Control, ask_agent
from kagemusha.commands.cluster_access import (
    Authority,
    Endpoints,
    Output,
    TokenFile,
    complete_program,
    format_of,
    show,
)
from kagemusha.exit_codes import ClusterRefused
from transport.errors import ControlError
from transport.structure_view import ELEMENTS_DEFAULT, ELEMENTS_MAX, GetStructures, Structures

if TYPE_CHECKING:
    from kagemusha.client import AsyncClient

_REPLY_S_MAX = 20.0


def structures(
    program: Annotated[
        str,
        typer.Argument(
            help="Id of the program: one of its mirrors is asked, or its primary where there is none. Or the instance "
            "that is to be asked, as in sessions@b.",
            autocompletion=complete_program,
        ),
    ],
    name: Annotated[str, typer.Argument(help="Name of the structure whose content is to be shown.")] = "",
    elements: Annotated[
        int, typer.Option(min=1, max=ELEMENTS_MAX, metavar="N", help="Of each array only so many, the first ones.")
    ] = ELEMENTS_DEFAULT,
    control: Control = None,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Show the named structures that an instance holds, with their age; and what is in one, decoded by its type.

    What is in one is the program's own data: it takes a token with the scope operator, or the agent's control socket.
    """
    from kagemusha import structure_tables
    from kagemusha.output import write

    if control is None:
        access = (endpoint, token_file, authority)
        show(access, lambda one: _ask_cluster(one, program, name, elements), output, structure_tables.structures)
        return
    question = GetStructures(name, elements)
    found = ask_agent(control, question, Structures, about="structures", limit_s=_REPLY_S_MAX)
    if program not in (found.program, found.instance):
        raise ControlError(f"{control} is the agent of {found.instance}", hint=f"kagemusha structures {found.program}")
    write(_plain(found), format_of(output), structure_tables.structures)


async def _ask_cluster(client: AsyncClient, program: str, name: str, elements: int) -> dict[str, Any]:
    if "@" in program:
        return await client.get_instance_structures(program, name, elements)
    known = {one["program"]: one for one in await client.list_programs()}
    if program not in known:
        raise ClusterRefused(f"there is no program {program}", hint="`kagemusha list` shows all", kind="unknown")
    instances = sorted(known[program]["instances"], key=lambda one: (one["status"] != "mirrored", one["role"]))
    if not instances:
        raise ClusterRefused(f"{program} has no instance", hint=f"kagemusha start {program}", kind="unfit")
    return await client.get_instance_structures(instances[0]["instance"], name, elements)


def _plain(found: Structures) -> dict[str, Any]:
    """As the API has it."""
    shown = asdict(found)
    for one in shown["structures"]:
        one["content"] = json.loads(one["content"]) if one["content"] else None
    return shown
