"""A status of an agent, for whoever needs one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transport.checkpoint import Version
from transport.control import MirrorView, Pauses, Status, Sync

VERSION = Version(2, 77, 5)
_WELL = Status(
    program="redis",
    instance="redis@a",
    incarnation=1,
    role="primary",
    status="mirrored",
    reason="",
    token=2,
    version=VERSION,
    lag_checkpoints=1,
    lag_ms=51.5,
    lag_bytes=4096,
    staleness_ms=62.0,
    pauses=Pauses(700, 900, 1200),
    checkpoints=77,
    abandoned=3,
    refused={"stale_token": 2, "corrupt": 0},
    bytes=5 << 20,
    memory_bytes=128 << 20,
    sync=None,
    mirrors=(MirrorView("redis@b", 1, "full", VERSION, 1, 4096, 62.0, Sync(10, 40, 1 << 20)),),
    connections=45,
    children=1,
    pid=4711,
)


def sample_status(**changes: Any) -> Status:
    """A primary's that is well, but for these fields."""
    return replace(_WELL, **changes)
