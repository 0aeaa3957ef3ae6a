"""A node's events on its disk: one JSON object a line, the newest of them kept, so that a restart forgets nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from cluster.admin.models import Event

log = structlog.get_logger()

KEPT_MAX: Final = 1000
LINES_MAX: Final = 2 * KEPT_MAX


class HistoryFile:
    """The file at `path`. A disk that can't be written to costs the history alone, and is told of once; what it did not
    take is written as soon as it takes something again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._failed = False
        self._is_stale = False
        self._is_unread = False
        """It may hold more than is known here, so it is not replaced."""

    def load(self) -> list[Event]:
        """The events of before, ascending; what is no event (the end of a torn write, say) is left out."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._is_unread = True
            self._complain(error)
            return []
        events: list[Event] = []
        for line in lines[-KEPT_MAX:]:
            try:
                event = Event.model_validate_json(line)
            except ValidationError:
                continue
            if not events or event.index > events[-1].index:
                events.append(event)
        self._lines = [event.model_dump_json().encode() for event in events]
        self._write_anew()
        return events

    def append(self, event: Event) -> None:
        """Keep an event; the oldest ones go when there are too many."""
        line = event.model_dump_json().encode()
        self._lines.append(line)
        if len(self._lines) > LINES_MAX:
            self._lines = self._lines[-KEPT_MAX:]
            self._is_stale = True
        if self._is_stale and not self._is_unread:
            self._write_anew()
            return
        try:
            with self._path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            self._is_stale = True
            self._complain(error)

    def _write_anew(self) -> None:
        beside = self._path.with_name(f".{self._path.name}.new")
        try:
            beside.write_bytes(b"".join(line + b"\n" for line in self._lines))
            os.replace(beside, self._path)
            self._is_stale = False
        except OSError as error:
            self._is_stale = True
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            log.warning("the history is not kept", path=str(self._path), reason=error.strerror)
