"""Sizes, times and limits as systemd writes them. Pure."""

from __future__ import annotations

import re
from typing import Final

from transport.errors import ConfigError

INFINITY: Final = -1
_SIZES: Final = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}
_TIMES_S: Final = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("us", "usec", "µs"), 1e-6),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}


def number(text: str) -> int:
    """A size or a count, "64K" say; INFINITY for "infinity". Raises ConfigError."""
    found = re.fullmatch(r"([0-9]+)\s*([BKMGTPE]?)", text.strip())
    if text.strip().lower() == "infinity":
        return INFINITY
    if found is None:
        raise ConfigError(f"{text!r} is no number")
    return int(found[1]) * _SIZES[found[2]]


def limit(text: str) -> tuple[int, int]:
    """Soft and hard, of "1024:4096" or one for both. Raises ConfigError."""
    soft, sign, hard = text.partition(":")
    return number(soft), number(hard if sign else soft)


def seconds(text: str) -> float | None:
    """A time, "1min 30s" say; None for "infinity", and for 0, which means the same of timeouts. Raises ConfigError."""
    if text.strip().lower() == "infinity":
        return None
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ]*)", text)
    if not parts or any(unit not in _TIMES_S for _, unit in parts):
        raise ConfigError(f"{text!r} is no time")
    return sum(float(count) * _TIMES_S[unit] for count, unit in parts) or None
