"""What the commands that ask the cluster share: their options, the client, and its errors as a person meets them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kagemusha.exit_codes import ClusterRefused

if TYPE_CHECKING:
    from kagemusha.client import AsyncClient
    from kagemusha.output import Format, Render

Result = TypeVar("Result")

_COMPLETION_S = 1.0


def complete_instance(incomplete: str) -> list[str]:
    """Completion of instance ids; nothing where the cluster can't be asked."""
    return [one for one in _names("instance") if one.startswith(incomplete)]


def complete_program(incomplete: str) -> list[str]:
    """Completion of program ids."""
    return [one for one in _names("program") if one.startswith(incomplete)]


def _names(kind: str) -> list[str]:
    from kagemusha.client import ApiError, AsyncClient

    async def ask() -> list[str]:
        async with asyncio.timeout(_COMPLETION_S), AsyncClient(patience_s=0) as client:
            programs = await client.list_programs()
        if kind == "program":
            return [one["program"] for one in programs]
        return [one["instance"] for program in programs for one in program["instances"]]

    try:
        return asyncio.run(ask())
    except (ApiError, TimeoutError):
        return []


_ACCESS = "Access to the cluster"

InstanceArgument = Annotated[
    str, typer.Argument(help="<program>@<node>, as in redis@a.", autocompletion=complete_instance)
]
ProgramArgument = Annotated[str, typer.Argument(help="Id of the program.", autocompletion=complete_program)]
Endpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        "-e",
        metavar="HOST:PORT",
        help="API of a node; may be given several times, any of them will do. Else KAGEMUSHA_ENDPOINTS, separated by "
        "commas, else 127.0.0.1:7402.",
        rich_help_panel=_ACCESS,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask first.")]
TokenFile = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="File that holds the token. Else KAGEMUSHA_TOKEN, else the file KAGEMUSHA_TOKEN_FILE, else "
        "/etc/kagemusha/token.",
        rich_help_panel=_ACCESS,
    ),
]
Authority = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="The cluster's authority.pem, by which nodes are known. Else KAGEMUSHA_AUTHORITY, else "
        "/etc/kagemusha/pki/authority.pem.",
        rich_help_panel=_ACCESS,
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", help="table, json or yaml.", metavar="FORMAT")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")]


@asynccontextmanager
async def client(endpoints: list[str] | None, token_file: str, authority: str) -> AsyncIterator[AsyncClient]:
    """A client as the options say. Raises ClusterRefused for whatever it refuses within the block."""
    from kagemusha.client import Access, ApiError, AsyncClient

    try:
        access = Access.from_environment(endpoints or (), token_file, authority)
        async with AsyncClient(access.endpoints, token=access.token, authority=access.authority) as one:
            yield one
    except ApiError as error:
        more = "; ".join(error.errors[1:])
        hint = "; ".join(filter(None, (more, error.hint)))
        raise ClusterRefused(error.what, hint=hint, kind=error.kind) from None


def ask(access: tuple[list[str] | None, str, str], question: Callable[[AsyncClient], Awaitable[Result]]) -> Result:
    """The cluster's answer to one question. access: endpoints, token file and authority, as the options say."""

    async def run() -> Result:
        async with client(*access) as one:
            return await question(one)

    return asyncio.run(run())


def show(
    access: tuple[list[str] | None, str, str],
    question: Callable[[AsyncClient], Awaitable[Any]],
    output: str,
    render: Render,
    *,
    again: bool = False,
) -> None:
    """Ask, and write the answer to stdout; with `again` every second until interrupted."""
    from kagemusha.output import watch, write

    form = format_of(output)
    if not again:
        write(ask(access, question), form, render)
        return

    async def run() -> None:
        async with client(*access) as one:
            await watch(lambda: question(one), form, render)

    asyncio.run(run())


def show_program(
    access: tuple[list[str] | None, str, str], change: Callable[[AsyncClient], Awaitable[Any]], output: str
) -> None:
    """Have something done to a program, and write what it is then."""
    from kagemusha import cluster_tables

    show(access, change, output, lambda found: cluster_tables.programs([found]))


def format_of(output: str) -> Format:
    """The format of that name. Raises typer.BadParameter."""
    from kagemusha.output import Format

    try:
        return Format(output)
    except ValueError:
        known = "table, json or yaml"
        raise typer.BadParameter(f"{output} is no format; {known}", param_hint="'--output'") from None


def note(text: str) -> None:
    """What is no data: for people, on stderr."""
    sys.stderr.write(text + "\n")


def confirm(question: str, deed: str) -> None:
    """Ask the person at the terminal before `deed`, which --yes does without. Raises typer.BadParameter where there is
    nobody, typer.Abort for a no."""
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"--yes is needed to {deed} without being asked")
    typer.confirm(question, abort=True, err=True)
