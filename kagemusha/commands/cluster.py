"""`kagemusha list`, `topology`, `switchover`, `start`, `stop`, `delete`: the cluster, looked at and commanded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagemusha.commands.cluster_access import (
    Authority,
    Endpoints,
    InstanceArgument,
    Output,
    ProgramArgument,
    TokenFile,
    Watch,
    ask,
    format_of,
    note,
    show,
)

if TYPE_CHECKING:
    from kagemusha.client import AsyncClient


def list_programs(
    output: Output = "table",
    watch: Watch = False,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """List all programs and their instances: where each runs, and where it is mirrored."""
    from kagemusha import cluster_tables

    access = (endpoint, token_file, authority)
    show(access, lambda one: one.list_programs(), output, cluster_tables.programs, again=watch)


def topology(
    output: Output = "table",
    watch: Watch = False,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Show the nodes, who leads them, and which instances each has."""
    from kagemusha import cluster_tables

    async def question(one: AsyncClient) -> dict[str, Any]:
        return {"nodes": await one.list_nodes(), "programs": await one.list_programs()}

    def render(found: dict[str, Any]) -> Any:
        return cluster_tables.topology(found["nodes"], found["programs"])

    show((endpoint, token_file, authority), question, output, render, again=watch)


def switchover(
    instance: InstanceArgument,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Hand a program over, planned, losing nothing: a mirror takes it, a primary gives it to its best mirror."""
    from kagemusha import cluster_tables

    access = (endpoint, token_file, authority)
    show(access, lambda one: one.force_switchover(instance), output, cluster_tables.switchover)


def start(
    program: ProgramArgument,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Start a program that was stopped, or that failed and was left so."""
    from kagemusha import cluster_tables

    access = (endpoint, token_file, authority)
    show(access, lambda one: one.start_program(program), output, lambda found: cluster_tables.programs([found]))


def stop(
    program: ProgramArgument,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """End a program on every node, in order. It stays known: `kagemusha start` starts it again."""
    from kagemusha import cluster_tables

    access = (endpoint, token_file, authority)
    show(access, lambda one: one.stop_program(program), output, lambda found: cluster_tables.programs([found]))


def delete(
    program: ProgramArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask first.")] = False,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """End a program on every node and forget it. Its files stay where they are."""
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"--yes is needed to delete {program} without being asked")
        typer.confirm(f"End {program} on every node and forget it?", abort=True, err=True)
    ask((endpoint, token_file, authority), lambda one: one.delete_program(program))
    note(f"{program} was ended and is forgotten")


def events(
    output: Output = "table",
    after: Annotated[int | None, typer.Option(metavar="INDEX", help="First what came after this event.")] = None,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Follow what the cluster agrees on, one line for each event, until Ctrl-C."""
    import json

    from kagemusha.output import Format

    form = format_of(output)

    async def follow(one: AsyncClient) -> None:
        async for event in one.follow_events(after):
            if form is Format.TABLE:
                sys.stdout.write(f"{event['index']:>8}  {event['at']}  {event['kind']:<17}  {event['text']}\n")
            elif form is Format.JSON:
                sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
            else:
                import yaml

                sys.stdout.write("---\n" + yaml.safe_dump(event, sort_keys=False, allow_unicode=True))
            sys.stdout.flush()

    ask((endpoint, token_file, authority), follow)
