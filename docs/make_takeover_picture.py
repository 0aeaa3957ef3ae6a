"""Make docs/takeover.svg from the record of a real run.

    python -m kagemusha demo --pair --record run.json
    python docs/make_takeover_picture.py run.json [docs/takeover.svg]

Above: one line per client connection, one mark per reply that it got. Below: what happened on the nodes meanwhile.
Of the run's takeovers after a kill -9 the one with the median gap is shown, neither the best nor the worst.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

NS_PER_MS = 1e6
INK, BUSY, ANEW, STEP, KILL = "#333333", "#1f6fb4", "#e08a1e", "#5b8f5b", "#c0392b"


def median_takeover(record: dict[str, Any]) -> dict[str, Any]:
    """The takeover after a killed process whose gap is the median of the run (the lower one of two)."""
    killed = [one for one in record["takeovers"] if one["kind"] == "process_killed"]
    killed.sort(key=lambda one: float(one["gap_ms"]))
    takeover: dict[str, Any] = killed[(len(killed) - 1) // 2]
    return takeover


def draw_replies(axes: Axes, takeover: dict[str, Any], from_ms: float, to_ms: float) -> None:
    """A row of marks per connection, of the replies in a time; idle ones have nothing to show."""
    speaking = {name: times for name, times in takeover["trace"].items() if not name.startswith("idle")}
    before_ms = takeover["trace_before_ns"] / NS_PER_MS
    rows = [
        [at_ms for at_ns in times if from_ms <= (at_ms := at_ns / NS_PER_MS - before_ms) <= to_ms]
        for times in speaking.values()
    ]
    colours = [ANEW if name.startswith("anew") else BUSY for name in speaking]
    axes.eventplot(rows, colors=colours, linelengths=0.75, linewidths=0.6)
    axes.invert_yaxis()
    axes.set_yticks([])
    busy = sum(name.startswith("busy") for name in speaking)
    axes.set_ylabel(f"{busy} writing clients, {len(rows) - busy} that\nconnect for each write", color=INK)


def draw_steps(axes: Axes, steps: list[dict[str, Any]]) -> None:
    """A bar per step of the takeover."""
    steps = [step for step in steps if not step["name"].startswith("client")]
    for row, step in enumerate(steps):
        axes.barh(row, step["took_ms"], left=step["at_ms"], color=STEP, height=0.6)
        label = f"{step['name']}  {step['took_ms']:.2f} ms"
        axes.text(step["at_ms"] + step["took_ms"], row, f"  {label}", va="center", fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.set_yticks([])
    axes.set_ylabel("what happens", color=INK)


def draw(record: dict[str, Any], to: Path) -> None:
    """Write the picture."""
    takeover = median_takeover(record)
    gap_ms = takeover["gap_ms"]
    from_ms, to_ms = -1.5 * gap_ms, 3 * gap_ms
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(10, 6.5), height_ratios=(3, 2), layout="constrained"
    )
    draw_replies(above, takeover, from_ms, to_ms)
    draw_steps(below, takeover["steps"])
    for axes in (above, below):
        axes.axvline(0, color=KILL, linewidth=1.2)
        axes.spines[["top", "right", "left"]].set_visible(False)
    survived = takeover["connections_busy_survived"] + takeover["connections_idle_survived"]
    connections = takeover["connections_busy"] + takeover["connections_idle"]
    above.set_title(
        f"kill -9 of a {record['program']} with {record['memory_mib']} MiB on node {takeover['source']}; "
        f"node {takeover['target']} goes on\n"
        f"every mark is a reply; longest silence {gap_ms:.1f} ms; {takeover['writes_lost']} of "
        f"{takeover['writes_acknowledged']:,} writes lost; {survived} of {connections} connections survive",
        loc="left",
        fontsize=10,
        color=INK,
    )
    above.annotate("kill -9", (0, 1), xycoords=("data", "axes fraction"), color=KILL, fontsize=9, ha="right", va="top")
    below.set_xlabel("ms after the kill", color=INK)
    below.set_xlim(from_ms, to_ms)
    # Without a date and with fixed ids the same run gives the same file.
    figure.savefig(to, metadata={"Date": None})


def main() -> None:
    """Read the arguments, make the picture."""
    parser = argparse.ArgumentParser(description="Make the picture of a takeover from the record of a run.")
    parser.add_argument("record", type=Path, help="what `kagemusha demo --pair --record FILE` wrote")
    parser.add_argument("to", type=Path, nargs="?", default=Path(__file__).parent / "takeover.svg")
    arguments = parser.parse_args()
    matplotlib.rcParams.update({"svg.hashsalt": "kagemusha", "font.family": "sans-serif", "svg.fonttype": "none"})
    draw(json.loads(arguments.record.read_text()), arguments.to)


if __name__ == "__main__":
    main()
