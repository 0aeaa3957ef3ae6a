"""`kagemusha top`: all instances at a glance, again and again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagemusha.commands.cluster_access import Authority, Endpoints, TokenFile, client

if TYPE_CHECKING:
    from kagemusha.client import AsyncClient


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.2, help="Time between two looks.")] = 1.0,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Watch all instances: roles, lag, pauses, bytes streamed. Ends with Ctrl-C."""
    from rich.live import Live

    from kagemusha import cluster_tables
    from kagemusha.output import console

    screen = console()

    async def run() -> None:
        async with client(endpoint, token_file, authority) as one:
            rates = Rates()
            found = await _look(one)
            if once or not screen.is_terminal:
                screen.print(cluster_tables.top(found, rates.of(found, time.monotonic())))
                return
            with Live(console=screen, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(cluster_tables.top(found, rates.of(found, time.monotonic())), refresh=True)
                    await asyncio.sleep(every)
                    found = await _look(one)

    asyncio.run(run())


async def _look(one: AsyncClient) -> list[dict[str, Any]]:
    """The status of every instance that can be asked now."""
    programs = await one.list_programs()
    names = [instance["instance"] for program in programs for instance in program["instances"]]
    found = await asyncio.gather(*(one.get_instance_status(name) for name in names), return_exceptions=True)
    statuses: list[dict[str, Any]] = []
    for status in found:
        if isinstance(status, dict):
            statuses.append(status)
        elif not hasattr(status, "kind"):
            raise status
    return statuses


class Rates:
    """How fast counters rise between two looks."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int, int]] = {}

    def of(self, found: list[dict[str, Any]], now_s: float) -> dict[str, tuple[float, float]]:
        """Of each instance: checkpoints and bytes a second, since it was last seen."""
        rates: dict[str, tuple[float, float]] = {}
        for one in found:
            name, taken, streamed = one["instance"], one["checkpoints"], one["streamed_bytes"]
            if name in self._before:
                then_s, taken_before, streamed_before = self._before[name]
                elapsed_s = max(now_s - then_s, 1e-3)
                rates[name] = (
                    max(taken - taken_before, 0) / elapsed_s,
                    max(streamed - streamed_before, 0) / elapsed_s,
                )
            self._before[name] = (now_s, taken, streamed)
        return rates
