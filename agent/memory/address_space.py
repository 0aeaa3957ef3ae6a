"""The mappings of a running or stopped process: read often, parsed only where something changed."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from dataclasses import replace
from typing import Final

from agent.context.layout import FLAGS, Area, encode, parse_line
from agent.errors import TraceeGone
from agent.kernel.procfs import open_file, path_of, read_bytes
from agent.memory.page_ranges import PAGE_BYTES

_BUFFER_BYTES: Final = 1 << 16
_FLAGS_INTERVAL_S: Final = 1.0
"""smaps walks all page tables (10 ms/GiB), so it is read seldom."""


class AddressSpace:
    """What is mapped where. It belongs to the memory that the process has now: an exec ends it.

    areas: ascending; replaced, never changed, so that whoever keeps the list keeps that state.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.areas: tuple[Area, ...] = ()
        self._file = open_file(pid, "maps")
        self._text = b""
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._known: dict[bytes, Area] = {}
        self._unflagged = False
        self._flags_due_s = 0.0
        self._encoded: tuple[tuple[Area, ...], bytes] = ((), encode(()))

    def close(self) -> None:
        os.close(self._file)

    def refresh(self, text: bytes = b"") -> tuple[list[Area], list[Area]] | None:
        """Read the mappings again; give those that went and those that came, or None when nothing changed.

        text: of /proc/PID/maps, if it has been read already. A mapping that was changed in any way is in both. Raises
        TraceeGone when the process has no memory any more.
        """
        text = text or self._read()
        if text == self._text:
            return None
        if not text:
            raise TraceeGone(self.pid)
        lines = text.splitlines()
        known: dict[bytes, Area] = {}
        come: list[Area] = []
        for line in lines:
            area = self._known.get(line)
            if area is None:
                area = self._parse(line)
                come.append(area)
            known[line] = area
        gone = [area for line, area in self._known.items() if line not in known]
        self._text, self._known, self.areas = text, known, tuple(known.values())
        self._unflagged = self._unflagged or bool(come)
        return gone, come

    def read_flags(self) -> None:
        """Ask smaps for the flags of mappings that are new; at most once a second. For when the program runs."""
        now_s = time.monotonic()
        if not self._unflagged or now_s < self._flags_due_s:
            return
        self._flags_due_s = now_s + _FLAGS_INTERVAL_S
        flags = _flags_by_start(read_bytes(self.pid, "smaps"))
        for line, area in self._known.items():
            found = flags.get((area.start, area.end), area.flags)
            if not area.shared and "mw" in found:
                found = tuple(flag for flag in found if flag != "mw")
            if found != area.flags:
                self._known[line] = replace(area, flags=found)
        self._unflagged = False
        self.areas = tuple(self._known.values())

    def record(self, areas: tuple[Area, ...] | None = None) -> bytes:
        """The layout record of `areas` (default: those of now)."""
        areas = self.areas if areas is None else areas
        if self._encoded[0] is not areas:
            self._encoded = (areas, encode(areas))
        return self._encoded[1]

    def _read(self) -> bytes:
        total = 0
        try:
            # The kernel gives a page of text at a time.
            while got := os.preadv(self._file, [self._view[total:]], total):
                total += got
                if total + PAGE_BYTES > len(self._view):
                    self._view = memoryview(bytearray(self._view) + bytes(len(self._view)))
        except ProcessLookupError as error:
            raise TraceeGone(self.pid) from error
        return bytes(self._view[:total])

    def _parse(self, line: bytes) -> Area:
        area = parse_line(line)
        if area.inode:
            name = f"map_files/{area.start:x}-{area.end:x}"
            try:
                size = os.stat(path_of(self.pid, name)).st_size
            except OSError:
                size = area.offset + area.end - area.start  # Gone meanwhile, or not to be asked.
            return parse_line(line, size)
        before = self._overlapping(area)
        if before is not None and before.flags and before.identity() == area.identity():
            return replace(area, flags=before.flags)
        return area

    def _overlapping(self, area: Area) -> Area | None:
        """The area of before that held the last page of this one, or the last one that began inside it."""
        at = bisect_right(self.areas, area.end - 1, key=lambda other: other.start) - 1
        return self.areas[at] if at >= 0 and self.areas[at].end > area.start else None


def _flags_by_start(smaps: bytes) -> dict[tuple[int, int], tuple[str, ...]]:
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    span = (0, 0)
    for line in smaps.splitlines():
        if line.startswith(b"VmFlags:"):
            found[span] = tuple(sorted(FLAGS.intersection(line[8:].decode().split())))
        elif b"-" in line[:17] and not line[:1].isupper():
            start, _, rest = line.partition(b"-")
            span = (int(start, 16), int(rest.split(None, 1)[0], 16))
    return found
