"""`kagemusha list`, `topology`, `switchover`, `start`, `stop`, `delete`: the cluster, looked at and commanded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagemusha.commands.cluster_access import (
    Authority,
    Endpoints,
    InstanceArgument,
    Output,
    ProgramArgument,
    TokenFile,
    Watch,
    Yes,
    ask,
    confirm,
    note,
    show,
    show_program,
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
    show_program((endpoint, token_file, authority), lambda one: one.start_program(program), output)


def stop(
    program: ProgramArgument,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """End a program on every node, in order. It stays known: `kagemusha start` starts it again."""
    show_program((endpoint, token_file, authority), lambda one: one.stop_program(program), output)


def delete(
    program: ProgramArgument,
    yes: Yes = False,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """End a program on every node and forget it. Its files stay where they are."""
    if not yes:
        confirm(f"End {program} on every node and forget it?", f"delete {program}")
    ask((endpoint, token_file, authority), lambda one: one.delete_program(program))
    note(f"{program} was ended and is forgotten")
