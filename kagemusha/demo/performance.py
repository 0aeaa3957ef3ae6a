"""A story of the demo is played on machines of a run of its own, which are gone afterwards whatever happens."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Protocol, TypeVar

from kagemusha.demo.display import Display
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Directory, Machines, clear_crashed_runs, new_run_id
from transport.errors import KagemushaError


class Judged(Protocol):
    """What came of a story."""

    def broken_promises(self) -> list[str]:
        """What the run must keep and did not."""


Outcome = TypeVar("Outcome", bound=Judged)
Played = TypeVar("Played", bound=Judged, covariant=True)


class Scenario(Protocol[Played]):
    """A story on its machines."""

    async def play(self) -> Played:
        """The whole story. DemoError at the first thing that does not happen as it must."""

    async def close(self) -> None:
        """Forget the processes, which are dead by now or die here."""


def perform(
    display: Display,
    nodes: tuple[str, ...],
    scenario: Callable[[Machines], Scenario[Outcome]],
    *,
    keep: bool,
) -> Outcome | None:
    """Play a scenario on machines of these names; None if it was interrupted. What failed is told with the place of the
    logs, which then stay; keep: they stay in any case."""
    clear_crashed_runs()
    directory = Directory(new_run_id())
    try:
        report = asyncio.run(_play(display, directory, nodes, scenario))
        if report.broken_promises():
            keep = True
            display.failure(f"the logs are in {directory.logs}")
        return report
    except asyncio.CancelledError:
        display.failure("interrupted; everything was cleaned up")
        return None
    except KagemushaError as error:
        keep = True
        hint = error.hint if str(directory.logs) in error.hint else f"{error.hint}; logs: {directory.logs}".lstrip("; ")
        raise DemoError(error.what, hint=hint) from error
    except BaseException:
        keep = True
        raise
    finally:
        directory.close(keep=keep)


async def _play(
    display: Display, directory: Directory, nodes: tuple[str, ...], scenario: Callable[[Machines], Scenario[Outcome]]
) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    count = {2: "two", 3: "three"}[len(nodes)]
    with display.task(f"{count} nodes and a client, each with its own network; nodes with own files and clocks"):
        machines = Machines(directory, nodes)
    played = scenario(machines)
    try:
        return await played.play()
    finally:
        # Killing every process in the namespaces needs no orderly end of anything, so it works after any failure.
        machines.close()
        await played.close()
