"""A takeover's time line as the leader and the new primary's agent tell it, placed on the clients' axis (pure).

The leader says when it heard that the new primary serves, by the wall clock, which this machine's nodes share, and how
long each part before that took. The agent says how long its own steps took; they lie within the leader's `activate`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kagemusha.demo.report import NS_PER_MS, Step

PARTS = ("detect", "fence", "agree", "activate", "redirect")
_WORDS = {
    "detect": "leader: detect",
    "fence": "leader: fence",
    "agree": "leader: agree",
    "activate": "leader: activate, redirect",
}


def parts_ms(promotion: dict[str, Any]) -> dict[str, float]:
    """The leader's parts in ms, by name; none where they are not known."""
    return {one["name"]: one["took_us"] / 1e3 for one in promotion["timeline"] if one["name"] in PARTS}


def steps(promotion: dict[str, Any], event_at_ns: int) -> list[Step]:
    """The takeover as steps in ms after the event, which was at `event_at_ns` by the wall clock."""
    parts = parts_ms(promotion)
    if not parts:
        return []
    at_ms = _after(promotion["served_at"], event_at_ns) - sum(parts.values())
    parts["activate"] += parts.pop("redirect")
    result, activate_ms = [], 0.0
    for name, took_ms in parts.items():
        # The leader counts a silence from the last sign of life, which came before the event.
        begun_ms = max(at_ms, 0.0)
        result.append(Step(_WORDS[name], begun_ms, max(at_ms + took_ms - begun_ms, 0.0)))
        activate_ms, at_ms = at_ms, at_ms + took_ms
    for one in promotion["timeline"]:
        if one["name"] not in PARTS:
            result.append(Step(f"  {one['name']}", activate_ms, one["took_us"] / 1e3))
            activate_ms += one["took_us"] / 1e3
    return result


def _after(at: str, event_at_ns: int) -> float:
    """From the event to a time of ISO 8601, in ms."""
    moment = datetime.fromisoformat(at)
    whole_ns = int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000
    return (whole_ns + moment.microsecond * 1000 - event_at_ns) / NS_PER_MS
