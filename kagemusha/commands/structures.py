"""`kagemusha structures`: the named data structures that an instance holds, and what is in one of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from transport.structure_view import ELEMENTS_DEFAULT, ELEMENTS_MAX

if TYPE_CHECKING:
    from kagemusha.client import AsyncClient
    from transport.structure_view import Structures

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
    control: Annotated[
        Path | None, typer.Option(metavar="SOCKET", help="Ask an agent on this node instead, at its control socket.")
    ] = None,
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
    found = asyncio.run(_ask_agent(control, name, elements))
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


async def _ask_agent(path: Path, name: str, elements: int) -> Structures:
    from transport.control_socket import ControlClient
    from transport.structure_view import GetStructures, Structures

    try:
        async with asyncio.timeout(_REPLY_S_MAX), await ControlClient.connect(path) as client:
            reply = await client.request(GetStructures(name, elements))
    except TimeoutError:
        what = f"{path}: no reply within {_REPLY_S_MAX:.0f} s"
        raise ControlError(what, hint="is the agent stopped or overloaded? its log says more") from None
    if not isinstance(reply, Structures):
        raise ControlError(f"{path}: {type(reply).__name__} is no answer to a question for structures")
    return reply


def _plain(found: Structures) -> dict[str, Any]:
    """As the API has it."""
    shown = asdict(found)
    for one in shown["structures"]:
        one["content"] = json.loads(one["content"]) if one["content"] else None
    return shown
