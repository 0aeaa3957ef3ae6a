"""How long each part of a takeover took, as the leader saw it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cluster.leader.takeover import Takeover
from transport.control import REDIRECTION

LEADERS_PARTS: Final = frozenset({"detect_us", "fence_us", "agree_us", "activate_us", "redirect_us"})
"""What `time_line` says first: together they are the whole time, and the steps of the agent are within them."""


def time_line(
    takeover: Takeover, agreed_s: float, now_s: float, inner: Sequence[tuple[str, int]]
) -> tuple[tuple[str, int], ...]:
    """From the failure to the news that the new primary serves, in us. inner: the steps that its agent took."""
    marks = (
        ("detect", takeover.failed_s, takeover.began_s),
        ("fence", takeover.began_s, takeover.fenced_s),
        ("agree", takeover.fenced_s, agreed_s),
        ("activate", agreed_s, now_s),
    )
    parts = {name: round((end - start) * 1e6) for name, start, end in marks}
    parts["redirect"] = sum(took_us for name, took_us in inner if name in REDIRECTION)
    parts["activate"] -= parts["redirect"]
    return (*((f"{name}_us", took_us) for name, took_us in parts.items()), *inner)
