"""`kagemusha status`: what an instance is doing, asked of the cluster, or of its agent over the control socket."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from kagemusha.commands.agent_access import Control, ask_agent
from kagemusha.commands.cluster_access import (
    Authority,
    Endpoints,
    Output,
    TokenFile,
    Watch,
    complete_instance,
    format_of,
    show,
)

if TYPE_CHECKING:
    from kagemusha.output import Format
    from transport.control import Status

_REPLY_S_MAX = 5.0
_AGE_MS_MAX = 1e11


def status(
    instance: Annotated[
        str | None, typer.Argument(help="<program>@<node>, as in redis@a.", autocompletion=complete_instance)
    ] = None,
    control: Control = None,
    output: Output = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
    watch: Watch = False,
    endpoint: Endpoints = None,
    token_file: TokenFile = "",
    authority: Authority = "",
) -> None:
    """Show what an instance is doing: role, status, checkpoint, lag, lease, pauses, mirrors."""
    form = "json" if as_json else output
    if (instance is None) == (control is None):
        raise typer.BadParameter("give an instance, or --control with an agent's socket")
    if instance is not None:
        from kagemusha import cluster_tables

        access = (endpoint, token_file, authority)
        show(access, lambda one: one.get_instance_status(instance), form, cluster_tables.instance, again=watch)
        return
    if control is not None:
        if watch:
            raise typer.BadParameter("--watch asks the cluster, not an agent")
        from transport.control import GetStatus, Status

        found = ask_agent(control, GetStatus(), Status, about="the status", limit_s=_REPLY_S_MAX)
        _write(found, format_of(form))


def _write(found: Status, form: Format) -> None:
    from kagemusha.output import Format, write

    if form is Format.TABLE:
        _show(found)
    else:
        write(asdict(found), form, str)


def _show(found: Status) -> None:
    from rich.table import Table
    from rich.text import Text

    from kagemusha.output import console

    table = Table.grid(padding=(0, 2))
    for name, value in status_lines(found):
        table.add_row(Text(name, "dim"), Text(value))
    console().print(table)


def status_lines(found: Status) -> list[tuple[str, str]]:
    """The status as a person reads it: name and value, with units."""
    why = f" ({found.reason})" if found.reason else ""
    lines = [
        ("instance", found.instance),
        ("role", f"{found.role}, {found.status}{why}"),
        ("token", str(found.token)),
        ("checkpoint", f"{found.version.number}, {found.checkpoints} taken or applied, {found.abandoned} abandoned"),
        ("lag", f"{found.lag_checkpoints} checkpoints, {_age(found.lag_ms)}, {found.lag_bytes:,} bytes"),
        ("staleness", _age(found.staleness_ms)),
        ("pauses", f"p50 {found.pauses.p50_us} us, p99 {found.pauses.p99_us} us, max {found.pauses.max_us} us"),
        ("memory", f"{found.memory_bytes / 2**20:,.0f} MiB image, {found.bytes / 2**20:,.1f} MiB streamed"),
        ("program", f"pid {found.pid}, {found.connections} connections" if found.pid else "does not run here"),
    ]
    if found.sync is not None:
        share = 100 * found.sync.bytes / max(found.sync.total_bytes, 1)
        speed = found.sync.bytes_per_s / 2**20
        lines.append(("first sync", f"{share:.0f} % of {found.sync.total_bytes:,} bytes, {speed:.0f} MiB/s"))
    if found.children:
        lines.append(("children", f"{found.children}, not mirrored: after a takeover the program sees them gone"))
    lines += [("refused", f"{count} updates: {reason}") for reason, count in sorted(found.refused.items()) if count]
    for mirror in found.mirrors:
        behind = f"{mirror.lag_checkpoints} checkpoints behind, staleness {_age(mirror.staleness_ms)}"
        lines.append(("mirror", f"{mirror.instance}: {mirror.state}, checkpoint {mirror.version.number}, {behind}"))
    return lines


def _age(age_ms: float) -> str:
    """An age in words: one of years means that there is no checkpoint to be as old as that."""
    return f"{age_ms:.0f} ms" if age_ms < _AGE_MS_MAX else "nothing is mirrored yet"
