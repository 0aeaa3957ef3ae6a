"""The cluster as a person reads it: tables and trees out of the API's answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

Json = dict[str, Any]

_STYLES = {
    "primary": "bold green",
    "mirrored": "green",
    "running": "green",
    "syncing": "yellow",
    "starting": "yellow",
    "failed": "bold red",
    "fenced": "red",
    "stopped": "dim",
}


def styled(word: str) -> Text:
    """A word of status in its colour."""
    return Text(word, _STYLES.get(word, ""))


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table as all of them look; `right`: columns of numbers."""
    numbers = set(right)
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in numbers)
    return made


def age(age_ms: float | None) -> str:
    """An age with its unit; "-" for none."""
    if age_ms is None:
        return "-"
    if age_ms < 10_000:
        return f"{age_ms:.0f} ms"
    return f"{age_ms / 1000:.0f} s" if age_ms < 600_000 else f"{age_ms / 60_000:.0f} min"


def size(count: float) -> str:
    """Bytes with the unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def checkpoint(found: Json | None) -> str:
    """token.number of a checkpoint; "-" for none."""
    return "-" if found is None else f"{found['token']}.{found['number']}"


def progress(sync: Json) -> str:
    """How far a first transfer is."""
    share = 100 * sync["done_bytes"] / max(sync["total_bytes"], 1)
    speed = f", {size(sync['bytes_per_s'])}/s" if sync["bytes_per_s"] else ""
    return f"{share:.0f} % of {size(sync['total_bytes'])}{speed}"


def programs(found: Sequence[Json]) -> RenderableType:
    """All programs, one line for each instance."""
    if not found:
        return Text("there are no programs; `kagemusha create` mirrors one", "dim")
    made = table("program", "instance", "role", "status", "token", "guarantee", "reason", right=("token",))
    for program in found:
        for place, one in enumerate(program["instances"]):
            first = place == 0
            status = styled(one["status"])
            if one["in_sync"]:
                status.append(" in sync", "dim")
            made.add_row(
                _name(program) if first else "",
                one["instance"],
                styled(one["role"]),
                status,
                str(program["token"]) if first else "",
                program["guarantee"] if first else "",
                one["reason"],
            )
    return made


def _name(program: Json) -> str:
    """With the end of its pause, if it is paused."""
    until = program["paused_until"] or "it is resumed"
    if program["shut_down"]:
        return f"{program['program']} (kagemusha startup starts it)"
    return f"{program['program']} (no failover until {until})" if program["paused"] else str(program["program"])


def topology(nodes: Sequence[Json], found: Sequence[Json]) -> RenderableType:
    """The nodes, and on each its instances."""
    entries = {one["instance"]: (program, one) for program in found for one in program["instances"]}
    tree = Tree(Text("cluster", "bold"), guide_style="dim")
    for node in nodes:
        tree.add(_node_line(node))
        branch = tree.children[-1]
        for name in node["instances"]:
            if name in entries:
                program, one = entries[name]
                line = Text.assemble(name, "  ", styled(one["role"]), " ", styled(one["status"]))
                if one["role"] == "primary":
                    line.append(f"  token {program['token']}", "dim")
                if one["reason"]:
                    line.append(f"  {one['reason']}", "dim")
                branch.add(line)
    return tree


def _node_line(node: Json) -> Text:
    line = Text.assemble("node ", (node["node"], "bold"))
    if node["leader"]:
        line.append("  leader", "cyan")
    if node["drained"]:
        line.append("  drained", "yellow")
    if not node["alive"]:
        line.append("  not heard from", "bold red")
    if node["heartbeat_age_ms"] is not None:
        line.append(f"  heard {age(node['heartbeat_age_ms'])} ago", "dim")
    if node["cpu"] is not None:
        line.append(f"  cpu {node['cpu']:.0%}", "dim")
    if node["free_bytes"] is not None:
        line.append(f"  {size(node['free_bytes'])} free", "dim")
    if node["latency_ms"] is not None:
        line.append(f"  {age(node['latency_ms'])} from the others", "dim")
    if node["trouble"]:
        line.append(f"  {node['trouble']}", "yellow")
    return line


def instance(found: Json) -> RenderableType:
    """Everything of one instance, as names and values."""
    grid = Table.grid(padding=(0, 2))
    for name, value in instance_lines(found):
        grid.add_row(Text(name, "dim"), value)
    return grid


def instance_lines(found: Json) -> list[tuple[str, Text | str]]:
    """The status of an instance as a person reads it: name and value, with units."""
    pauses = found["pauses"]
    role = Text.assemble(styled(found["role"]), ", ", styled(found["status"]))
    if found["reason"]:
        role.append(f" ({found['reason']})")
    runs = f"pid {found['pid']}, {found['connections']} connections" if found["pid"] else "does not run here"
    lines: list[tuple[str, Text | str]] = [
        ("instance", found["instance"]),
        ("role", role),
        ("token", str(found["token"])),
        ("guarantee", found["guarantee"]),
        ("checkpoint", f"{checkpoint(found['checkpoint'])}, {found['checkpoints']} taken or applied"),
        ("lag", f"{found['lag_checkpoints']} checkpoints, {age(found['lag_ms'])}, {size(found['lag_bytes'])}"),
        ("pauses", f"p50 {pauses['p50_us']} us, p99 {pauses['p99_us']} us, max {pauses['max_us']} us"),
        ("memory", f"{size(found['memory_bytes'])}, {size(found['streamed_bytes'])} streamed"),
        ("program", runs),
    ]
    if found["paused"]:
        lines.insert(2, ("failover", Text("paused: kagemusha resume ends it", "yellow")))
    if found["last_failure"] is not None:
        last = found["last_failure"]
        lines.append(("last failure", f"{last['instance']}, {last['at']}: {last['reason']}"))
    if found["lease_age_ms"] is not None:
        lines.insert(3, ("lease", f"renewed {age(found['lease_age_ms'])} ago"))
    if found["sync"] is not None:
        lines.append(("first sync", progress(found["sync"])))
    if found["abandoned"]:
        lines.append(("abandoned", f"{found['abandoned']} checkpoints"))
    if found["children"]:
        lines.append(("children", f"{found['children']}, not mirrored: after a takeover the program sees them gone"))
    lines += [("refused", f"{count} updates: {why}") for why, count in sorted(found["refused"].items()) if count]
    for one in found["mirrors"]:
        behind = f"{one['lag_checkpoints']} checkpoints behind, staleness {age(one['staleness_ms'])}"
        lines.append(("mirror", f"{one['instance']}: {one['state']}, {checkpoint(one['checkpoint'])}, {behind}"))
    return lines


def switchover(found: Json) -> RenderableType:
    """A takeover that is done, and its parts."""
    steps = Table.grid(padding=(0, 2))
    steps.add_column()
    steps.add_column(justify="right")
    for step in found["timeline"]:
        steps.add_row(Text(f"  {step['name']}", "dim"), f"{step['took_us'] / 1000:.2f} ms")
    line = Text.assemble((found["new"], "bold"), f" serves under token {found['token']}, ")
    line.append(f"from checkpoint {checkpoint(found['checkpoint'])}; {found['old']} let go")
    return Group(line, steps)


def top(found: Sequence[Json], rates: dict[str, tuple[float, float]]) -> RenderableType:
    """All instances at a glance. rates: of each, checkpoints and bytes a second."""
    numbers = ("checkpoint", "/s", "lag", "lag bytes", "lease", "p50", "p99", "stream", "memory", "conns")
    made = table("instance", "role", "status", *numbers, right=numbers)
    for one in found:
        per_s, bytes_per_s = rates.get(one["instance"], (0.0, 0.0))
        status = Text(progress(one["sync"]), "yellow") if one["sync"] else styled(one["status"])
        made.add_row(
            one["instance"],
            styled(one["role"]),
            status,
            checkpoint(one["checkpoint"]),
            f"{per_s:.1f}",
            age(one["lag_ms"]),
            size(one["lag_bytes"]),
            age(one["lease_age_ms"]),
            f"{one['pauses']['p50_us'] / 1000:.2f} ms",
            f"{one['pauses']['p99_us'] / 1000:.2f} ms",
            f"{size(bytes_per_s)}/s",
            size(one["memory_bytes"]),
            str(one["connections"]),
        )
    return made
