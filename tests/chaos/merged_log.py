"""The logs of all nodes as one, by time (`merged` is pure).

A line without a time belongs to the one before it. A log that knows no times at all stands where its file was last
written to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

_TIME = re.compile(r"\b(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)(Z?)")


def merged(logs: Iterable[tuple[str, float, str]]) -> list[str]:
    """The lines, each with its time and the name of its log. logs: name, when it was last written to (seconds of
    CLOCK_REALTIME), text. Lines of the same time keep the order of their log."""
    lines = []
    for name, written_s, text in logs:
        found = text.splitlines()
        at_s = next((at for at in map(_time_of, found) if at is not None), written_s)
        for line in found:
            own_s = _time_of(line)
            at_s = at_s if own_s is None else own_s
            lines.append((at_s, name, line))
    lines.sort(key=lambda line: line[0])
    width = max((len(name) for _, name, _ in lines), default=0)
    return [f"{_clock(at_s)} {name:{width}} {line}" for at_s, name, line in lines]


def _time_of(line: str) -> float | None:
    match = _TIME.search(line)
    if match is None:
        return None
    moment = datetime.fromisoformat(f"{match[1]}T{match[2]}")
    return (moment.replace(tzinfo=UTC) if match[3] else moment.astimezone()).timestamp()


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S.%f")


def write_merged(run: Path, to: Path) -> None:
    """Merge all logs of a run: the daemons', their watchdogs', the agents', the programs' and the clients'."""
    paths = [*sorted((run / "logs").glob("*.log")), *sorted((run / "nodes").rglob("*.log"))]
    logs = [(_name(run, path), path.stat().st_mtime, path.read_text(errors="replace")) for path in paths]
    to.write_text("".join(f"{line}\n" for line in merged(logs)))


def _name(run: Path, path: Path) -> str:
    parts = path.relative_to(run).parts
    return f"{path.stem}-{parts[1]}" if parts[0] == "nodes" else path.stem
