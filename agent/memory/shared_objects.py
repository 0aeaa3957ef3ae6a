"""Shared memory that others can write to unseen: what of it exists, whoever wrote it.

A write-protect mark belongs to a page table. write(2) to a memfd, a second mapping, another process, or a hole punched
into it change an object's content without one, so at every stop all of its content is read; what did not change is
sorted out afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from agent.context.layout import Area
from agent.kernel.procfs import path_of
from agent.memory.page_ranges import NO_RANGES, PAGE_BYTES, Ranges, ranges


class SharedObjects:
    """The shared memory objects that a program maps."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._areas: list[Area] = []
        self._files: dict[tuple[int, int, int], int] = {}

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def follow(self, areas: list[Area]) -> None:
        """These are the objects' mappings now."""
        self._areas = areas
        keep = {_key(area) for area in areas}
        for key in [key for key in self._files if key not in keep]:
            os.close(self._files.pop(key))

    def contents(self) -> Iterator[tuple[Area, Ranges]]:
        """All mappings, each with what exists of it."""
        for area in self._areas:
            yield area, self.extents(area)

    def extents(self, area: Area) -> Ranges:
        """The ranges of a mapping that exist in its object (lseek(2) SEEK_DATA); asking creates no pages."""
        file = self._open(area)
        if file is None:
            return ranges([(area.start, area.end)])
        found: list[tuple[int, int]] = []
        position, limit = area.offset, area.offset + area.end - area.start
        while position < limit:
            try:
                data = os.lseek(file, position, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing more
                break
            if data >= limit:
                break
            hole = min(os.lseek(file, data, os.SEEK_HOLE), limit)
            first, last = data // PAGE_BYTES * PAGE_BYTES, -(-hole // PAGE_BYTES) * PAGE_BYTES
            found.append((area.start + first - area.offset, area.start + last - area.offset))
            position = last
        return ranges(found) if found else NO_RANGES

    def _open(self, area: Area) -> int | None:
        key = _key(area)
        file = self._files.get(key)
        if file is None:
            path = path_of(self._pid, f"map_files/{area.start:x}-{area.end:x}")
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # Secret memory, or a mapping that is gone: it is read as a whole.
                return None
            self._files[key] = file
        return file


def _key(area: Area) -> tuple[int, int, int]:
    return area.start, area.end, area.inode
