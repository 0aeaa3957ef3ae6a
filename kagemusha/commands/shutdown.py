"""`kagemusha shutdown` and `startup`: every node is to be off at once, and is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagemusha.commands.cluster_access import Authority, Endpoints, TokenFile, Yes, ask, confirm, note
from kagemusha.exit_codes import ClusterRefused

if TYPE_CHECKING:
    from kagemusha.client import AsyncClient

_LOOK_AGAIN_S = 0.5
Wait = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1.0, help="Longest wait.")]


def shutdown(
    yes: Yes = False,
    timeout: Wait = 600.0,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """End every program in order, before all nodes are switched off at once.

    What programs hold in memory is lost when no node runs any more: each gets SIGTERM, and its grace_ms to save what it
    can. The daemons run on; stop them afterwards. `kagemusha startup` starts the same programs again when the nodes
    are back; one that a person had stopped before stays stopped.
    """
    access = (endpoint, token_file, authority)
    running = [one["program"] for one in ask(access, lambda one: one.list_programs()) if _runs(one)]
    if not running:
        note("no program runs: the daemons may be stopped")
        return
    if not yes:
        note(f"what {', '.join(running)} holds in memory will be lost but for what is saved at the end")
        confirm("End all of them, on every node?", "end all programs")
    nodes = ask(access, lambda one: _end_all(one, running, timeout))
    note(f"every program has ended; stop the daemons now, on {', '.join(nodes)}")
    note("when they are back: kagemusha startup")


def startup(
    timeout: Wait = 600.0,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Start the programs that `kagemusha shutdown` ended, when the nodes are back. Anew: what they held is gone."""

    async def start_all(one: AsyncClient) -> list[str]:
        ended = [known["program"] for known in await one.list_programs() if known["shut_down"]]
        await _each(ended, lambda name: _persist(lambda: one.start_program(name), lambda: _is_up(one, name), timeout))
        return ended

    started = ask((endpoint, token_file, authority), start_all)
    note(f"started: {', '.join(started)}" if started else "no program waits for a startup; kagemusha list shows all")


async def _end_all(one: AsyncClient, programs: Sequence[str], timeout_s: float) -> list[str]:
    async def end(name: str) -> None:
        await _persist(lambda: one.shutdown_program(name), lambda: _is_down(one, name), timeout_s)
        note(f"{name} has ended")

    await _each(programs, end)
    return [node["node"] for node in await one.list_nodes()]


async def _each(names: Sequence[str], do: Callable[[str], Awaitable[None]]) -> None:
    """All of them at once; the first failure is raised when all have come to an end."""
    found = await asyncio.gather(*(do(name) for name in names), return_exceptions=True)
    failures = {name: one for name, one in zip(names, found, strict=True) if isinstance(one, BaseException)}
    for name, failure in failures.items():
        if len(failures) > 1:
            note(f"{name}: {getattr(failure, 'what', failure)}")
    if failures:
        raise next(iter(failures.values()))


async def _persist(
    change: Callable[[], Awaitable[Any]], is_done: Callable[[], Awaitable[bool]], timeout_s: float
) -> None:
    """Have something done, and look whether it is where the answer does not come: a program may save for minutes."""
    from kagemusha.client import ApiError

    try:
        await change()
        return
    except ApiError as error:
        if error.kind not in ("unknown-outcome", "busy"):
            raise
        what, hint = error.what, error.hint
    try:
        async with asyncio.timeout(timeout_s):
            while not await is_done():
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        raise ClusterRefused(f"not within {timeout_s:g} s: {what}", hint=hint, kind="unknown-outcome") from None


async def _is_down(one: AsyncClient, name: str) -> bool:
    return not any(_runs(known) for known in await one.list_programs() if known["program"] == name)


async def _is_up(one: AsyncClient, name: str) -> bool:
    found = [known for known in await one.list_programs() if known["program"] == name]
    return all(not known["shut_down"] and _primary_status(known) in ("running", "mirrored") for known in found)


def _runs(program: dict[str, Any]) -> bool:
    """Whether there is anything of it to end; one that has failed may be started by its policy at any moment."""
    return _primary_status(program) not in ("", "stopped")


def _primary_status(program: dict[str, Any]) -> str:
    """Of its primary, "" where there never was one."""
    return next((str(one["status"]) for one in program["instances"] if one["node"] == program["primary"]), "")
