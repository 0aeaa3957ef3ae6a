"""`kagemusha demo --structures`: its options, its exit code, and that it cleans up whatever happens."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from kagemusha.demo.display import Display
from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Directory, Machines, clear_crashed_runs, new_run_id
from kagemusha.demo.structures.report import Report
from kagemusha.demo.structures.scenario import NODES, Scenario, Story
from kagemusha.exit_codes import ExitCode
from transport.errors import KagemushaError

LIMITS = {"interval_ms": (10, 1000), "clients": (1, 200), "per_second": (1, 10_000)}


def main(arguments: Sequence[str]) -> int:
    """Run the story. Returns 0 only if it kept everything that was promised. Raises DemoError and other errors of
    kagemusha after everything was cleaned up."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    for name, (lowest, highest) in LIMITS.items():
        if not lowest <= getattr(options, name) <= highest:
            given = getattr(options, name)
            raise DemoError(f"--{name.replace('_', '-')} must be from {lowest} to {highest}, not {given}")
    interpreters = dict(one.partition("=")[::2] for one in options.python)
    if unknown := set(interpreters) - set(NODES):
        raise DemoError(f"--python {min(unknown)}: there is no such node", hint="write --python b=/usr/bin/python3.12")
    story = Story(interpreters, options.interval_ms, options.clients, options.per_second)
    display = Display(sys.stderr if options.json else sys.stdout)
    report = _run(story, display, keep=options.keep)
    if report is None:
        return ExitCode.INTERRUPTED
    broken = report.broken_promises()
    for line in broken:
        display.failure(line)
    if not broken:
        display.note("everything that was promised was kept")
    if options.json:
        print(report.to_json(), flush=True)
    return ExitCode.FAILED if broken else ExitCode.OK


def _run(story: Story, display: Display, *, keep: bool) -> Report | None:
    """Run the scenario; None if it was interrupted. What failed is told with the place of the logs, which then stay."""
    clear_crashed_runs()
    directory = Directory(new_run_id())
    try:
        report = asyncio.run(_play(story, display, directory))
        if report.broken_promises():
            keep = True
            display.failure(f"the logs are in {directory.logs}")
        return report
    except asyncio.CancelledError:
        display.failure("interrupted; everything was cleaned up")
        return None
    except KagemushaError as error:
        keep = True
        hint = error.hint if str(directory.path) in error.hint else f"{error.hint}; logs: {directory.logs}".lstrip("; ")
        raise DemoError(error.what, hint=hint) from error
    except BaseException:
        keep = True
        raise
    finally:
        directory.close(keep=keep)


async def _play(story: Story, display: Display, directory: Directory) -> Report:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with display.task("three nodes and a client, each with its own network; nodes with own files and clocks"):
        machines = Machines(directory, NODES)
    scenario = Scenario(story, display, machines)
    try:
        return await scenario.play()
    finally:
        # Killing every process in the namespaces needs no orderly end of anything, so it works after any failure.
        machines.close()
        await scenario.close()


def _parser() -> argparse.ArgumentParser:
    story = Story({})
    parser = argparse.ArgumentParser(
        prog="kagemusha demo --structures",
        description="An exchange in Python and a session service in C, of which only the book and the table are "
        "mirrored, are killed, and then their nodes; warm instances go on with what they were given. Nodes and the "
        "clients are namespaces of this machine. Takes root, and changes nothing outside of them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--json", action="store_true", help="one JSON object as the last line of stdout, all else on stderr")
    add("--interval-ms", type=int, metavar="N", default=story.interval_ms, help="from one update to the next")
    add("--clients", type=int, metavar="N", default=story.clients, help="of each program")
    add("--per-second", type=int, metavar="N", default=story.per_second, help="updates of each program's clients")
    add("--python", metavar="NODE=PATH", action="append", default=[], help="another Python for the exchange there")
    add("--keep", action="store_true", help="leave the logs in place")
    return parser
