"""`kagemusha context`: what is mirrored of an instance, made visible without its contents."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kagemusha.commands.cluster_access import (
    Authority,
    Endpoints,
    Output,
    TokenFile,
    complete_instance,
    format_of,
    show,
)
from transport.errors import ControlError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from transport.context_schema import Context

_REPLY_S_MAX = 10.0


def context(
    instance: Annotated[
        str | None, typer.Argument(help="<program>@<node>, as in redis@a.", autocompletion=complete_instance)
    ] = None,
    control: Annotated[
        Path | None, typer.Option(metavar="SOCKET", help="Ask an agent on this node instead, at its control socket.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="threads, handlers, descriptors, connections or mappings; again for more."),
    ] = None,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Show what is mirrored: threads with their stacks, signal handlers, descriptors, connections, memory map.

    Of the last checkpoint that the instance has taken or holds; never what is in it.
    """
    from kagemusha import context_tables
    from kagemusha.output import write

    parts = only or []
    for part in parts:
        if part not in context_tables.SECTIONS:
            known = ", ".join(context_tables.SECTIONS)
            raise typer.BadParameter(f"{part} is no part of a context; they are {known}", param_hint="'--only'")
    if (instance is None) == (control is None):
        raise typer.BadParameter("give an instance, or --control with an agent's socket")

    def render(found: dict[str, object]) -> RenderableType:
        return context_tables.context(found, parts)

    if instance is not None:
        access = (endpoint, token_file, authority)
        show(access, lambda one: one.get_instance_context(instance), output, render)
    elif control is not None:
        write(asdict(asyncio.run(_ask(control))), format_of(output), render)


async def _ask(path: Path) -> Context:
    from transport.context_schema import Context
    from transport.control import GetContext
    from transport.control_socket import ControlClient

    try:
        async with asyncio.timeout(_REPLY_S_MAX), await ControlClient.connect(path) as client:
            reply = await client.request(GetContext())
    except TimeoutError:
        what = f"{path}: no reply within {_REPLY_S_MAX:.0f} s"
        raise ControlError(what, hint="is the agent stopped or overloaded? its log says more") from None
    if not isinstance(reply, Context):
        raise ControlError(f"{path}: {type(reply).__name__} is no answer to a question for the context")
    return reply
