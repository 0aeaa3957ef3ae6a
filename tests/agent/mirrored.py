"""A puppet with everything that captures it: what the tests of tracking and capture act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.context.memory import Captured, MemoryCapture
from agent.memory.image import Image
from agent.memory.page_ranges import PAGE_BYTES
from agent.scout.scout import Scout
from tests.agent.twin import Twin, differences, of_image
from tests.agent.victim import Puppet, build, running

READ, WRITE = 1, 2
SHARED, PRIVATE, FIXED, ANONYMOUS, GROWS_DOWN, NO_RESERVE = 1, 2, 0x10, 0x20, 0x100, 0x4000
DONTNEED, REMOVE, GUARD_INSTALL = 4, 9, 102
PLACE: Final = 0x5000_0000_0000
"""Nothing else is ever mapped here."""


@dataclass
class Mirrored:
    """A puppet, its capture, its image and a dumb mirror of it. `number`: of the last checkpoint."""

    puppet: Puppet
    capture: MemoryCapture
    image: Image
    twin: Twin = field(default_factory=Twin)
    number: int = 1

    def tell(self, what: str, *numbers: int) -> int:
        return self.puppet.tell(what, *numbers)

    def map(
        self,
        pages: int,
        *,
        at: int = PLACE,
        protection: int = READ | WRITE,
        flags: int = PRIVATE | ANONYMOUS,
        descriptor: int = -1,
        offset: int = 0,
    ) -> int:
        """Map memory of the puppet at a fixed address."""
        return self.tell("m", at, pages * PAGE_BYTES, protection, flags | FIXED, descriptor, offset)

    def begin(self) -> None:
        """Attach, and take the first image."""
        self.puppet.stop()
        self.capture.attach()
        self.puppet.resume()
        for part in self.capture.fill(1):
            self.twin.apply(part)
        self.twin.layout = self.capture.tracker.space.areas

    def stop(self) -> Captured:
        """Stop and copy; the puppet stays stopped."""
        self.puppet.stop()
        self.capture.ask_scout()
        return self.capture.copy_stopped()

    def checkpoint(self) -> int:
        """A whole checkpoint, after which image and mirror must be equal to the memory; gives its pages."""
        self.number += 1
        captured = self.stop()
        pages = self.twin.take(captured, self.image, self.number)
        try:
            assert self.wrong() == []
        finally:
            self.puppet.resume()
        return pages

    def wrong(self) -> list[str]:
        """Where image or mirror are not what the stopped puppet's memory is."""
        areas = self.twin.layout
        held = of_image(self.image, self.image.pages_known())
        return differences(self.puppet.pid, areas, held) + differences(self.puppet.pid, areas, self.twin.pages)


@contextmanager
def mirrored(directory: Path, *, image_bytes: int = 256 << 20, scout: Scout | None = None) -> Iterator[Mirrored]:
    """Start a puppet and what captures it; nothing is attached yet."""
    with running([str(build("puppet.c"))], directory) as puppet:
        image = Image(image_bytes)
        capture = MemoryCapture(puppet.pid, puppet.take_uffd(), image, scout)
        try:
            yield Mirrored(puppet, capture, image)
        finally:
            capture.close()
