"""`kagemusha create`: mirror a program from now on, and watch until its mirrors hold it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagemusha.commands.cluster_access import Authority, Endpoints, Output, TokenFile, client, format_of, note
from kagemusha.exit_codes import ClusterRefused

if TYPE_CHECKING:
    from kagemusha.client import AsyncClient

_LOOK_AGAIN_S = 0.3
_LOST = ("failed", "fenced", "stopped")
_SETTLED = ("mirrored", *_LOST)


def create(
    program: Annotated[str, typer.Argument(help="Id of the program, the same as in its file.")],
    config_file: Annotated[str, typer.Argument(help="Path of its program.toml, the same on every node.")],
    node: Annotated[
        list[str] | None,
        typer.Option("--node", "-n", help="A node that gets an instance, the first one starts it. Else all nodes."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", "-w/-W", help="Watch until every mirror holds the program.")
    ] = True,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="Longest wait.")] = 600.0,
    output: Output = "table",
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Start a program on one node and mirror it, live, to the others.

    The file must be the same on all its nodes, where it belongs to root; so must be the kernel, the CPU's features, and
    the program's executable and libraries. `kagemusha preflight FILE` on a node says beforehand whether it can run and
    mirror the program.
    """
    from kagemusha import cluster_tables
    from kagemusha.output import write

    form = format_of(output)
    path = os.path.abspath(config_file)

    async def run() -> None:
        async with client(endpoint, token_file, authority) as one:
            created = await one.create_mirrored_instance(program, path, node or ())
            names = [instance["instance"] for instance in created["instances"]]
            if wait:
                created = await _watch(one, created, names, timeout)
        write(created, form, lambda found: cluster_tables.programs([found]))

    asyncio.run(run())


async def _known(one: AsyncClient, created: dict[str, Any]) -> dict[str, Any]:
    """What is known by now of a program that was created."""
    return next((known for known in await one.list_programs() if known["program"] == created["program"]), created)


async def _watch(one: AsyncClient, created: dict[str, Any], names: list[str], timeout_s: float) -> dict[str, Any]:
    """Show the first transfers until all is settled, and agreed to be; gives the program as it is then.

    Raises ClusterRefused when an instance fails, or it takes long.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    end_s = time.monotonic() + timeout_s
    columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[text]}"))
    screen = Console(stderr=True, highlight=False, markup=False)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as shown:
        bars = {name: shown.add_task(name, total=None, text="starting") for name in names}
        while True:
            found = {name: await one.get_instance_status(name) for name in names}
            for name, status in found.items():
                shown.update(bars[name], **_bar(status))
            known = await _known(one, created)
            # The nodes say it of themselves a moment before it is agreed, which is what everybody else is told.
            if _settled(found) and _settled({entry["instance"]: entry for entry in known["instances"]}):
                break
            _require_a_start(created, known)
            if time.monotonic() > end_s:
                late = ", ".join(name for name, status in found.items() if not _is_settled(status))
                what = f"not mirrored within {timeout_s:g} s: {late}"
                raise ClusterRefused(what, hint="it goes on in the background; see kagemusha status")
            await asyncio.sleep(_LOOK_AGAIN_S)
    for name, status in found.items():
        if status["status"] in _LOST:
            what = f"{name} is {status['status']}" + (f": {status['reason']}" if status["reason"] else "")
            raise ClusterRefused(what, hint=f"see the log of node {status['node']}")
    mirrors = [name for name, status in found.items() if status["role"] == "mirror"]
    held = f"every mirror holds it: {', '.join(mirrors)}" if mirrors else "it has no mirror"
    note(f"{created['program']} runs; {held}")
    return known


def _require_a_start(created: dict[str, Any], known: dict[str, Any]) -> None:
    """Raise ClusterRefused when the program did not come up the first time: the next ones end no better."""
    promotion = known["last_promotion"]
    if promotion is None or known["token"] <= created["token"] + 1 or promotion["checkpoint"] is not None:
        return
    program, why = known["program"], promotion["reason"].removeprefix("no mirror: ")
    hint = f"it is tried again and again: see the log of its node, or kagemusha delete {program}"
    raise ClusterRefused(f"{program} did not come up: {why}", hint=hint, kind="launch")


def _settled(found: Mapping[str, dict[str, Any]]) -> bool:
    """Whether nothing more is to be waited for. A program on a single node has no mirror to wait for."""
    alone = len(found) == 1
    return all(_is_settled(status) or (alone and status["status"] == "running") for status in found.values())


def _is_settled(status: dict[str, Any]) -> bool:
    return status["status"] in _SETTLED


def _bar(status: dict[str, Any]) -> dict[str, Any]:
    """How far an instance is: a bar that moves while it is sent the program for the first time, and in words."""
    from kagemusha.cluster_tables import progress

    sync = status["sync"]
    if sync is not None:
        return {"text": progress(sync), "completed": sync["done_bytes"], "total": max(sync["total_bytes"], 1)}
    if status["status"] == "mirrored" or (status["role"] == "primary" and status["status"] == "running"):
        return {"text": "runs" if status["role"] == "primary" else "mirrored", "completed": 1, "total": 1}
    return {"text": status["status"]}
