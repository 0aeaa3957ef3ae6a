"""`kagemusha log-level`: how much a node logs, for a time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kagemusha.commands.cluster_access import Authority, Endpoints, TokenFile, ask, note
from kagemusha.commands.maintenance import seconds_of
from kagemusha.exit_codes import ClusterRefused, ExitCode

_LEVELS = ("debug", "info", "warning", "error")


def log_level(
    words: Annotated[list[str], typer.Argument(metavar="[NODE] LEVEL", help="debug, info, warning or error.")],
    everywhere: Annotated[bool, typer.Option("--all", help="On every node, instead of one that is named.")] = False,
    time: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long: 30s, 10m, 1h; 1d at most. Then it is info again.")
    ] = "10m",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """How much a node logs, with its agents. Nobody has to remember to take it back, and nothing is restarted.

    `kagemusha log-level a debug`, `kagemusha log-level --all warning --for 1h`. It takes a token with the scope admin.
    """
    from kagemusha.client import ApiError, AsyncClient

    if len(words) != (1 if everywhere else 2):
        raise typer.BadParameter("name a node and a level, or --all and a level", param_hint="'[NODE] LEVEL'")
    level, for_s = words[-1], seconds_of(time)
    if level not in _LEVELS:
        raise typer.BadParameter(f"{level} is none of {', '.join(_LEVELS)}", param_hint="'LEVEL'")

    async def tell(one: AsyncClient) -> list[tuple[str, ClusterRefused | None]]:
        nodes: list[dict[str, Any]] = await one.list_nodes() if everywhere else [{"node": words[0]}]
        found: list[tuple[str, ClusterRefused | None]] = []
        for node in nodes:
            try:
                await one.set_log_level(node["node"], level, for_s)
                found.append((node["node"], None))
            except ApiError as error:
                if not everywhere:
                    raise
                found.append((node["node"], ClusterRefused(error.what, hint=error.hint, kind=error.kind)))
        return found

    told = ask((endpoint, token_file, authority), tell)
    for node, refused in told:
        note(f"node {node} logs from {level} on, for {time}" if refused is None else refused.what)
    if any(refused is not None for _, refused in told):
        raise typer.Exit(ExitCode.FAILED)
