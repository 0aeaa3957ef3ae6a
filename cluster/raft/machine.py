"""The replicated state machine, as a member sees it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Applied:
    """The state machine's answer to a command, or what it raised."""

    result: bytes
    mistake: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """The replicated state machine. apply must be deterministic and must not raise. snapshot and restore: all of it."""

    apply: Callable[[bytes], bytes]
    snapshot: Callable[[], bytes]
    restore: Callable[[bytes], None]
