"""`kagemusha context`: what is mirrored of an instance, made visible without its contents."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from kagemusha.commands.agent_access import Control, ask_agent
from kagemusha.commands.cluster_access import (
    Authority,
    Endpoints,
    Output,
    TokenFile,
    complete_instance,
    format_of,
    show,
)

if TYPE_CHECKING:
    from rich.console import RenderableType


_REPLY_S_MAX = 10.0


def context(
    instance: Annotated[
        str | None, typer.Argument(help="<program>@<node>, as in redis@a.", autocompletion=complete_instance)
    ] = None,
    control: Control = None,
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
        from transport.context_schema import Context
        from transport.control import GetContext

        found = ask_agent(control, GetContext(), Context, about="the context", limit_s=_REPLY_S_MAX)
        write(asdict(found), format_of(output), render)
