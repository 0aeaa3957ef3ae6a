"""What somebody else saw of a stopped program's memory, before the tracker looks at it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.kernel.vm import Contents
from agent.memory.page_ranges import Ranges


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the scout found in the runs that it was asked about.

    copied: what lies in `rows`, from the first on, until the next question. seen: all else that was written. reverted:
    which of the private ranges hold a page that is no copy any more. maps: the text of /proc/PID/maps, b"" if it is not
    known.
    """

    copied: Ranges
    seen: Ranges
    reverted: Ranges
    maps: bytes
    rows: Contents
