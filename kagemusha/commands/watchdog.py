"""`kagemusha watchdog`: started by the node's daemon, which it outlives; never by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kagemusha.privilege import require_root


def watchdog(leases: Annotated[Path, typer.Argument(help="File of the leases.")]) -> None:
    """Stop this node's primaries when their leases end."""
    require_root("the watchdog freezes programs and drops their addresses")
    from cluster.fencing.watchdog import watch

    watch(leases, _complain, _harden)


def _complain(line: str) -> None:
    sys.stderr.write(f"watchdog: {line}\n")
    sys.stderr.flush()


def _harden() -> None:
    """Real-time and locked in memory. A container may forbid either: then it is as prompt as the others let it be."""
    from kagemusha.promptness import WATCHDOG_PRIORITY, be_punctual

    be_punctual(WATCHDOG_PRIORITY)
