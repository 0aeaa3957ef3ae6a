"""The smallest schedule that still fails (pure). Source of the way: Zeller, Hildebrandt, "Simplifying and Isolating
Failure-Inducing Input" (2002), here for lists and with a bound on the number of trials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
TRIALS_MAX = 32


async def shrink(
    items: Sequence[Item], fails: Callable[[Sequence[Item]], Awaitable[bool]], trials_max: int = TRIALS_MAX
) -> list[Item]:
    """A part of the items, in their order, that still fails; no single piece more can be left out, unless the trials
    were used up. `items` is known to fail."""
    kept, pieces = list(items), 2
    while len(kept) > 1:
        size = -(-len(kept) // pieces)
        for start in range(0, len(kept), size):
            rest = kept[:start] + kept[start + size :]
            if trials_max <= 0:
                return kept
            trials_max -= 1
            if await fails(rest):
                kept, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if size == 1:
                return kept
            pieces = min(pieces * 2, len(kept))
    return kept
