"""`kagemusha watchdog`: started by the node's daemon, which it outlives, or by a unit of its own; never by hand."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from kagemusha.inherited_signals import hear_all
from kagemusha.service_manager import ServiceManager


def watchdog(
    leases: Annotated[Path, typer.Argument(help="File of the leases.")],
    stand_by: Annotated[bool, typer.Option(help="While there is another watchdog, wait for its end.")] = False,
) -> None:
    """Stop this node's primaries when their leases end."""
    hear_all()
    manager = ServiceManager.taken_from(os.environ)
    from cluster.fencing.watchdog import watch

    watch(leases, _Complaints(), _harden, _Pulse(manager), stand_by=stand_by)


class _Pulse:
    """Tells systemd that the watchdog watches, or stands by; no more often than is asked for."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._is_ready = False
        self._next_s = 0.0

    def __call__(self) -> None:
        if not self._is_ready:
            self._manager.ready("the leases are watched")
            self._is_ready = True
        now_s = time.monotonic()
        if self._manager.ping_s is not None and now_s >= self._next_s:
            self._manager.ping()
            self._next_s = now_s + self._manager.ping_s


class _Complaints:
    """To the journal, where the daemon logs to it or systemd has started this; to stderr elsewhere, which is a file."""

    def __init__(self) -> None:
        from transport.journal import VARIABLE, Journal, is_stderr

        self._journal: Journal | None = None
        if os.environ.get(VARIABLE) == "1" or is_stderr(os.environ):
            try:
                self._journal = Journal("kagemusha-watchdog")
            except OSError:
                pass

    def __call__(self, line: str) -> None:
        if self._journal is not None:
            program, sign, _ = line.partition(": ")
            self._journal.send(line, "warning", {"KAGEMUSHA_PROGRAM": program} if sign else {})
            return
        sys.stderr.write(f"watchdog: {line}\n")
        sys.stderr.flush()


def _harden() -> None:
    """Real-time and locked in memory. A container may forbid either: then it is as prompt as the others let it be."""
    from kagemusha.promptness import WATCHDOG_PRIORITY, be_punctual

    be_punctual(WATCHDOG_PRIORITY)
