"""`kagemusha history` and `events`: what the cluster has agreed on, and what it agrees on now."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagemusha.commands.cluster_access import (
    Authority,
    Endpoints,
    Output,
    TokenFile,
    ask,
    complete_program,
    format_of,
    show,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kagemusha.client import AsyncClient
    from kagemusha.output import Format

OfProgram = Annotated[
    str, typer.Argument(help="Id of a program; else all programs and nodes.", autocompletion=complete_program)
]


def history(
    program: OfProgram = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="The newest so many events.")] = 100,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Show what happened: starts, takeovers and why, fences, pauses, leaders; the newest last."""

    def render(found: list[dict[str, Any]]) -> RenderableType:
        from rich.text import Text

        lines = "\n".join(map(_line, found))
        return Text(lines or "nothing has happened yet", no_wrap=True, overflow="ignore")

    show((endpoint, token_file, authority), lambda one: one.get_history(program, limit), output, render)


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    output: Output = "table",
    after: Annotated[int | None, typer.Option(metavar="INDEX", help="First what came after this event.")] = None,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Show what the cluster agreed on of late, one line for each event; with -f also what it agrees on from now on.

    -o json writes one object a line.
    """
    form = format_of(output)

    async def run(one: AsyncClient) -> None:
        last = after
        if after is None or not follow:
            known = [event for event in await one.get_history() if event["index"] > (after or 0)]
            for event in known:
                _write(event, form)
            last = known[-1]["index"] if known else after
        if follow:
            async for event in one.follow_events(last):
                _write(event, form)

    ask((endpoint, token_file, authority), run)


def _line(event: dict[str, Any]) -> str:
    return f"{event['index']:>8}  {event['at']}  {event['kind']:<17}  {event['text']}"


def _write(event: dict[str, Any], form: Format) -> None:
    from kagemusha.output import Format

    if form is Format.TABLE:
        sys.stdout.write(_line(event) + "\n")
    elif form is Format.JSON:
        sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
    else:
        import yaml

        sys.stdout.write("---\n" + yaml.safe_dump(event, sort_keys=False, allow_unicode=True))
    sys.stdout.flush()
