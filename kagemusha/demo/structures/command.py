"""`kagemusha demo --structures`: its options and its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from kagemusha.demo.display import Display
from kagemusha.demo.errors import DemoError
from kagemusha.demo.performance import perform
from kagemusha.demo.structures.scenario import NODES, Scenario, Story
from kagemusha.exit_codes import ExitCode

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
    report = perform(display, NODES, partial(Scenario, story, display), keep=options.keep)
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
