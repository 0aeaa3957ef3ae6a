"""`kagemusha demo`: its options and its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kagemusha.demo.cluster.scenario import NODES, ClusterScenario
from kagemusha.demo.display import Display
from kagemusha.demo.errors import DemoError
from kagemusha.demo.pair.scenario import NODES as PAIR
from kagemusha.demo.pair.scenario import PairScenario
from kagemusha.demo.performance import perform
from kagemusha.demo.story import Story
from kagemusha.demo.structures.command import main as structures
from kagemusha.exit_codes import ExitCode

LOAD_SHARES = {True: 0.6, False: 0.5}
"""Of the story of two nodes, and of that of three."""
LIMITS = {"memory_mib": (1, 65536), "interval_ms": (10, 1000), "rounds": (0, 1000), "load_share": (0.01, 1.0)}


def main(arguments: Sequence[str]) -> int:
    """Run the demo. Returns 0 only if it kept everything that was promised. Raises DemoError and other errors of
    kagemusha after everything was cleaned up."""
    if "--structures" in arguments:
        return structures([one for one in arguments if one != "--structures"])
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    share = LOAD_SHARES[options.pair] if options.load_share is None else options.load_share
    story = Story(options.memory_mib, options.interval_ms, options.rounds, share)
    for name, (lowest, highest) in LIMITS.items():
        if not lowest <= getattr(story, name) <= highest:
            option = "--load" if name == "load_share" else f"--{name.replace('_', '-')}"
            raise DemoError(f"{option} must be from {lowest} to {highest}, not {getattr(story, name)}")
    display = Display(sys.stderr if options.json else sys.stdout)
    display.title()
    report = (
        perform(display, PAIR, partial(PairScenario, story, display), keep=options.keep)
        if options.pair
        else perform(display, NODES, partial(ClusterScenario, story, display), keep=options.keep)
    )
    if report is None:
        return ExitCode.INTERRUPTED
    if options.record is not None:
        _write(options.record, report.record())
    if options.json:
        print(report.to_json(), flush=True)
    return ExitCode.FAILED if report.broken_promises() else ExitCode.OK


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise DemoError(f"{path} can't be written: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    story = Story()
    parser = argparse.ArgumentParser(
        prog="kagemusha demo",
        description="A running redis-server is killed under load, and goes on in another process on another node, as "
        "the leader of three nodes decides. Nodes and the client are namespaces of this machine. Takes root, and "
        "changes nothing outside of them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--pair", action="store_true", help="two nodes, and a small controller of the demo's own instead of a cluster")
    add("--structures", action="store_true", help="another story: two programs of which only named data is mirrored")
    add("--json", action="store_true", help="one JSON object as the last line of stdout, all else on stderr")
    add("--memory-mib", type=int, metavar="N", default=story.memory_mib, help="random data to fill redis with")
    add("--interval-ms", type=int, metavar="N", default=story.interval_ms, help="from one checkpoint to the next")
    add("--rounds", type=int, metavar="N", default=story.rounds, help="how often redis is killed")
    share_help = (
        "load during takeovers; 1: as fast as redis answers (default: 0.5 of what it does with its two mirrors; with "
        "--pair 0.6 of what it does without one)"
    )
    add("--load", dest="load_share", type=float, metavar="SHARE", help=share_help)
    add("--record", type=Path, metavar="FILE", help="write all that was seen, for docs/make_takeover_picture.py")
    add("--keep", action="store_true", help="leave the logs in place")
    return parser
