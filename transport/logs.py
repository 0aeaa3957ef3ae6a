"""How processes log: to the journal with its fields where systemd has started them, as lines elsewhere.

Nothing of a program's memory, no token of the API and no variable of a program's environment is ever given to a log;
`SECRET` takes out what looks like one all the same.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import structlog

from transport.journal import VARIABLE, Journal, is_stderr
from transport.log_level import LogLevel

FORM: Final = "KAGEMUSHA_LOG"
"""`json`: one object a line, where it is no journal."""
SECRET: Final = re.compile(r"kgm_[A-Za-z0-9._~+/-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")
_FIELDS: Final = ("program", "instance", "token", "node")
"""They are fields of their own in the journal, KAGEMUSHA_PROGRAM say, to be asked for by name."""

Event = MutableMapping[str, Any]


def configure(level: LogLevel, *, inherited: bool = False, **bound: str) -> None:
    """Log from now on. bound: stands in every line ("node"). inherited: stderr is a file, and the journal is used where
    the process that started this one uses it."""
    journal = _journal(inherited)
    if journal is not None:
        os.environ[VARIABLE] = "1"
        tail: list[Any] = [structlog.processors.format_exc_info, ToJournal(journal)]
    else:
        plain = structlog.processors.LogfmtRenderer(bool_as_flag=False)
        form = structlog.processors.JSONRenderer() if os.environ.get(FORM) == "json" else plain
        tail = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            form,
        ]
    structlog.configure(
        processors=[Filter(level), structlog.contextvars.merge_contextvars, without_secrets, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**bound)


class _Lossy:
    """Lines that can't be written, as there is no room or no memory for them, are lost: whoever says that something
    failed must not fail by that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """See `TextIO`."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """See `TextIO`."""
        with suppress(OSError):
            self._stream.flush()


def _journal(inherited: bool) -> Journal | None:
    if not (os.environ.get(VARIABLE) == "1" if inherited else is_stderr(os.environ)):
        return None
    try:
        return Journal("kagemusha")
    except OSError:
        return None


class Filter:
    """Leaves out what the level does not admit."""

    def __init__(self, level: LogLevel) -> None:
        self._level = level

    def __call__(self, _: object, method: str, event: Event) -> Event:
        if not self._level.admits(method):
            raise structlog.DropEvent
        return event


class ToJournal:
    """Gives each line to the journal; one that it does not take is written to stderr, if it has not to wait there."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __call__(self, _: object, method: str, event: Event) -> str:
        what = str(event.pop("event", ""))
        rest = {name: value for name, value in event.items() if value not in ("", None)}
        words = [what, *(f"{name}={_word(value)}" for name, value in rest.items() if name not in _FIELDS)]
        level = "error" if method == "exception" else method
        self._journal.send(" ".join(words), level, fields_of(rest))
        raise structlog.DropEvent


def fields_of(event: Mapping[str, Any]) -> dict[str, str]:
    """The fields of the journal for what stands in a line. An instance is of a program and a node, too."""
    found = {f"KAGEMUSHA_{name.upper()}": str(event[name]) for name in _FIELDS if name in event}
    program, sign, node = str(event.get("instance", "")).partition("@")
    if sign:
        found.setdefault("KAGEMUSHA_PROGRAM", program)
        found.setdefault("KAGEMUSHA_NODE", node)
    return found


def without_secrets(_: object, __: str, event: Event) -> Event:
    """What looks like a token of the API, or a private key, is not written down."""
    for name, value in event.items():
        if isinstance(value, str) and SECRET.search(value):
            event[name] = SECRET.sub("(secret)", value)
    return event


def _word(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text or not text else text
