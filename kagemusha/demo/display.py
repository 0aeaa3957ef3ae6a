"""What a person sees: what happens now, each takeover's time line, and what it came to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from kagemusha.demo.report import Report, Step, Takeover, TakeoverKind

WIDTH = 100
_BAR_COLUMNS = 46
_EIGHTHS = " ▏▎▍▌▋▊▉█"

_TITLES: dict[TakeoverKind, str] = {
    "process_killed": "kill -9 of the program on node {source}",
    "node_killed": "node {source} dies: link cut, then every process of it",
    "switchover": "planned switchover",
}
_SHORT: dict[TakeoverKind, str] = {
    "process_killed": "process killed",
    "node_killed": "node killed",
    "switchover": "switchover",
}
_LEADER_TITLE = "node {source} dies, which is primary and leads the Raft group"
_LEADER_SHORT = "leader's node killed"
MIB = 1 << 20


@dataclass(slots=True)
class Task:
    """A line under way: `now` is shown while it lasts, `result` afterwards."""

    _status: Status
    _title: str
    result: str = ""

    def now(self, text: str) -> None:
        """Say how far it is."""
        self._status.update(f"{escape(self._title)} [dim]{escape(text)}[/dim]")

    def progress(self, done_bytes: int, total_bytes: int, bytes_per_s: int) -> None:
        """Say how much of how much is done, and how fast."""
        if total_bytes:
            done = f"{done_bytes / MIB:,.0f} of {total_bytes / MIB:,.0f} MiB ({done_bytes / total_bytes:.0%})"
            self.now(f"{done}, {bytes_per_s / MIB:,.0f} MiB/s" if bytes_per_s else done)


class Display:
    """Writes to `file`. Colours as the terminal can show them, none with NO_COLOR."""

    def __init__(self, file: IO[str] | None = None) -> None:
        console = Console(file=file, highlight=False)
        self._console = Console(
            file=file, highlight=False, width=min(console.width, WIDTH) if console.is_terminal else WIDTH
        )

    def title(self) -> None:
        """What this is."""
        self._console.print("\n[bold]kagemusha[/bold]: a running redis-server is killed, and goes on on another node\n")

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """A line with a spinner while the body runs, with a check mark and the time it took afterwards."""
        start_s = time.monotonic()
        with self._console.status(escape(title)) as status:
            task = Task(status, title)
            yield task
        text = Text.assemble(("  ✓ ", "green"), title)
        if task.result:
            text.append(f": {task.result}")
        took = f"{time.monotonic() - start_s:.1f} s"
        text.pad_right(max(self._console.width - text.cell_len - len(took) - 1, 1))
        self._console.print(text.append(took, "dim"))

    def takeover(self, takeover: Takeover) -> None:
        """The time line of one takeover, as bars over one axis."""
        title = (_LEADER_TITLE if takeover.leader_killed else _TITLES[takeover.kind]).format(source=takeover.source)
        heading = Text.assemble("\n  ", (title, "bold"), f"  →  node {takeover.target} serves, token {takeover.token}")
        self._console.print(heading)
        self._console.print(Padding(_bars(takeover.steps), (0, 0, 0, 4)))
        self._console.print(Padding(_verdict(takeover), (0, 0, 0, 4)))

    def note(self, text: str) -> None:
        """One line that is no task."""
        self._console.print(f"    [dim]{escape(text)}[/dim]")

    def summary(self, report: Report) -> None:
        """All takeovers in one table, and what mirroring costs."""
        self._console.print(Padding(_table(report), (0, 0, 0, 2)))
        if any(one.parts_ms for one in report.takeovers):
            self._console.print(Padding(_parts(report), (0, 0, 0, 2)))
        self._console.print(Padding(_costs(report), (0, 0, 0, 2)))
        broken = report.broken_promises()
        for line in broken:
            self._console.print(Text.assemble(("  ✗ ", "red"), line))
        if not broken:
            self._console.print(Text.assemble(("\n  ✓ ", "green"), "everything that was promised was kept"))

    def failure(self, text: str) -> None:
        """What was under way when it went wrong."""
        self._console.print(Text.assemble(("  ✗ ", "red"), text))


def bar(at: float, took: float, columns: int) -> str:
    """A bar of block characters on an axis of `columns`, from `at` for `took` (both as parts of 1).

    It begins at a whole column and is never invisible.
    """
    start = min(int(at * columns), columns - 1)
    eighths = max(round(took * columns * 8), 1)
    eighths = min(eighths, (columns - start) * 8)
    full, rest = divmod(eighths, 8)
    return (" " * start + "█" * full + (_EIGHTHS[rest] if rest else "")).ljust(columns)


def _bars(steps: list[Step]) -> Table:
    end_ms = max((step.at_ms + step.took_ms for step in steps), default=0.0) or 1.0
    table = Table.grid(padding=(0, 1))
    table.add_column(width=31, no_wrap=True)
    table.add_column(width=_BAR_COLUMNS, no_wrap=True)
    table.add_column(justify="right", width=11, no_wrap=True)
    for step in steps:
        whole = step.name.startswith("client")
        drawn = Text(bar(step.at_ms / end_ms, step.took_ms / end_ms, _BAR_COLUMNS), "yellow" if whole else "cyan")
        table.add_row(step.name, drawn, f"{step.took_ms:.2f} ms")
    axis = Text("0".ljust(_BAR_COLUMNS - len(f"{end_ms:.1f} ms")) + f"{end_ms:.1f} ms", "dim")
    table.add_row("", axis, "")
    return table


def _share(part: int, of: int) -> Text:
    return Text(f"{part}/{of}", "green" if part == of else "yellow")


def _count(number: int) -> Text:
    return Text(f"{number:,}", "green" if not number else "yellow")


def _verdict(takeover: Takeover) -> Text:
    text = Text.assemble("lost ", _count(takeover.writes_lost), f" of {takeover.writes_acknowledged:,} writes")
    text.append(f" (staleness {takeover.staleness_reported_ms:.0f} ms)")
    for name, survived, of in (
        ("idle", takeover.connections_idle_survived, takeover.connections_idle),
        ("busy", takeover.connections_busy_survived, takeover.connections_busy),
    ):
        text.append(f"; {name} ").append_text(_share(survived, of))
    text.append("; reset ").append_text(_count(takeover.connections_reset))
    return text.append("; hung ").append_text(_count(takeover.connections_hung))


def _name(takeover: Takeover) -> str:
    return _LEADER_SHORT if takeover.leader_killed else _SHORT[takeover.kind]


def _table(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.add_column("takeover", no_wrap=True)
    table.add_column("nodes", no_wrap=True)
    for name in ("token", "gap ms", "acknowledged", "lost", "stale ms", "idle", "busy", "reset", "hung"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in report.takeovers:
        table.add_row(
            _name(one),
            f"{one.source} → {one.target}",
            str(one.token),
            f"{one.gap_ms:.1f}",
            f"{one.writes_acknowledged:,}",
            _count(one.writes_lost),
            f"{one.staleness_reported_ms:.0f}",
            _share(one.connections_idle_survived, one.connections_idle),
            _share(one.connections_busy_survived, one.connections_busy),
            _count(one.connections_reset),
            _count(one.connections_hung),
        )
    return table


def _parts(report: Report) -> Table:
    """What the leader says of each takeover, and what it came to for clients."""
    names = list(dict.fromkeys(name for one in report.takeovers for name in one.parts_ms))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.add_column("the leader's time line, ms", no_wrap=True)
    for name in (*names, "together", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in report.takeovers:
        parts = [f"{one.parts_ms[name]:.1f}" if name in one.parts_ms else "" for name in names]
        together = f"{sum(one.parts_ms.values()):.1f}"
        table.add_row(_name(one), *parts, together, f"{one.gap_ms:.1f}")
    return table


def _costs(report: Report) -> Table:
    pauses, table = report.pauses, Table.grid(padding=(0, 2))
    table.add_row("checkpoints", f"{report.checkpoints:,}, one every {report.interval_ms} ms")
    table.add_row(
        "pause of the program",
        f"p50 {pauses.p50 / 1e3:.2f} ms, p99 {pauses.p99 / 1e3:.2f} ms, max {pauses.max / 1e3:.2f} ms",
    )
    table.add_row(
        "bytes per checkpoint", f"{report.checkpoint_bytes / 1e3:,.0f} kB for {report.memory_mib} MiB of program"
    )
    table.add_row("lag of the best mirror" if report.mirrors > 1 else "lag of the mirror", f"{report.lag_ms:.0f} ms")
    table.add_row(
        "writes per second",
        f"{report.unmirrored_per_second:,.0f} without a mirror, {report.mirrored_per_second:,.0f} with "
        f"{report.mirrors_in_words} ({report.throughput_ratio:.0%})",
    )
    table.add_row(
        "load of the takeovers",
        f"{report.load_per_second:,.0f} writes per second, {report.load_ratio:.0%} of what redis does with "
        f"{report.mirrors_in_words}",
    )
    return table
