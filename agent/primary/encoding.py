"""What a primary sends: deltas, unions and full transfers, made out of its image and its records.

A delta is encoded once, while the captured pages go into the image. Unions and the chunks of a full transfer are read
out of the image when they are sent, and carry whole pages. Belongs to the tracer thread, as the image does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from agent.kernel.vm import Contents
from agent.memory.image import Image
from agent.memory.page_buffer import PageBuffer
from agent.memory.page_ranges import Mask, Pages
from agent.primary.history import RecordHistory
from transport.checkpoint import NOTHING, PART_PAGES, Header, Kind, Records, Version, chain_digest, combined_sum
from transport.delta import Codec, PagePartEncoder, part_sum, records_parts
from transport.messages import Begin, End, RecordsMessage, StreamMessage
from transport.messages import Pages as PagesMessage

_SHARED_CHUNKS = 8
"""Chunks that are kept for another mirror's full transfer, which is a little behind: 16 MiB at most."""
CHUNK_PAGES = 512
"""Pages of one chunk of a full transfer: 2 MiB, so that the tracer thread is never busy with it for long."""

Part = tuple[Pages, Contents, Contents, Mask]
"""Pages, their contents in the image, their new contents, and which of them are fresh."""


class CapturedMemory(Protocol):
    """The memory of one checkpoint, not yet in the image. parts: in blocks that stay in the processor's caches."""

    def parts(self, image: Image, number: int) -> Iterable[Part]: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """A checkpoint ready to be sent. pages, records: encoded parts, in order."""

    header: Header
    pages: tuple[bytes, ...]
    records: tuple[bytes, ...]

    @property
    def bytes(self) -> int:
        """Size of all parts."""
        return sum(map(len, self.pages)) + sum(map(len, self.records))

    def messages(self) -> list[StreamMessage]:
        """The messages that carry it, in order."""
        sums = [part_sum(part) for part in (*self.pages, *self.records)]
        return [
            Begin(self.header),
            *map(PagesMessage, self.pages),
            *map(RecordsMessage, self.records),
            End(self.header, len(self.records), combined_sum(sums)),
        ]


class Encoder:
    """Encodes the checkpoints of one program under one fencing token."""

    def __init__(self, program: str, token: int, image: Image, codec: Codec, start: Version = NOTHING) -> None:
        """`start`: the state that the program is in already (a mirror that became the primary)."""
        self.program = program
        self.token = token
        self.image = image
        self.history = RecordHistory()
        self.version = start
        self._codec = codec
        self._chunks: OrderedDict[tuple[Version, int], tuple[Pages, bytes]] = OrderedDict()

    @cached_property
    def _parts(self) -> PagePartEncoder:
        """Made when it is needed first: a program that has just been taken over waits for its tracer thread."""
        return PagePartEncoder(self._codec)

    @cached_property
    def _contents(self) -> Contents:
        return PageBuffer(PART_PAGES, PART_PAGES).rows

    def delta(
        self,
        memory: CapturedMemory,
        records: Records,
        *,
        captured_ns: int,
        final: bool,
        between: Callable[[], None] = lambda: None,
    ) -> Encoded:
        """Put a captured checkpoint into the image and return the delta that leads to it.

        `between` is called between parts: the tracer looks after its program there.
        """
        number = self.version.number + 1
        changed, removed = self.history.advance(number, records)
        pages: list[bytes] = []
        count = 0
        encoder = self._parts
        for numbers, base, new, fresh in memory.parts(self.image, number):
            if len(numbers) > encoder.room:
                pages.append(encoder.finish())
            encoder.add(numbers, base, new, fresh)
            count += len(numbers)
            between()
        if encoder.count:
            pages.append(encoder.finish())
        parts = tuple(part.encode() for part in records_parts(changed, removed))
        base_version = self.version
        digest = chain_digest(
            base_version,
            self.token,
            number,
            [part_sum(part) for part in pages],
            combined_sum([part_sum(part) for part in parts]),
        )
        self.version = Version(self.token, number, digest)
        header = Header(self.program, self.version, base_version, captured_ns, count, len(pages), final, "delta")
        return Encoded(header, tuple(pages), parts)

    def union(self, base: Version, captured_ns: int, *, final: bool = False) -> Encoded:
        """Return what changed since `base`, a checkpoint of this encoder's program, as whole pages."""
        pages = self.image.changed_since(base.number)
        changed, removed = self.history.since(base.number)
        encoded = tuple(self._whole(pages))
        parts = tuple(part.encode() for part in records_parts(changed, removed))
        return Encoded(self._header("union", base, captured_ns, len(pages), len(encoded), final), encoded, parts)

    def full(self, captured_ns: int) -> FullTransfer:
        """Begin to send everything to one mirror, in chunks, while the program runs on."""
        return FullTransfer(self, captured_ns)

    def chunk(self, pages: Pages) -> bytes:
        """Return one part with the whole pages `pages` as the image has them now."""
        contents = self._contents[: len(pages)]
        self.image.read(pages, contents)
        return self._parts.encode(pages, None, contents, None)

    def shared_chunk(self, pages: Pages) -> bytes:
        """The same, made once for all mirrors that get everything at the same time.

        pages: a part of those that the image knew at some time. What changed in them meanwhile, a transfer sends again.
        """
        key = (self.version, int(pages[0]))
        known = self._chunks.get(key)
        if known is not None and np.array_equal(known[0], pages):
            return known[1]
        chunk = self.chunk(pages)
        self._chunks[key] = pages, chunk
        if len(self._chunks) > _SHARED_CHUNKS:
            self._chunks.popitem(last=False)
        return chunk

    def forget_chunks(self) -> None:
        """Nobody gets everything now."""
        self._chunks.clear()

    def _whole(self, pages: Pages) -> Iterator[bytes]:
        for start in range(0, len(pages), PART_PAGES):
            yield self.chunk(pages[start : start + PART_PAGES])

    def _header(self, kind: Kind, base: Version, captured_ns: int, pages: int, parts: int, final: bool) -> Header:
        return Header(self.program, self.version, base, captured_ns, pages, parts, final, kind)


class FullTransfer:
    """All pages to one mirror: `begin`, `next_chunk` until it gives None, `end`.

    The records go first, because a blank shadow is built by them; at the end they go before the pages again, because
    pages of new mappings need their mappings.
    """

    def __init__(self, encoder: Encoder, captured_ns: int) -> None:
        self._encoder = encoder
        self._since = encoder.version
        self._pages = encoder.image.pages_known()
        self._sent = 0
        self._header = encoder._header("full", NOTHING, captured_ns, len(self._pages), 0, False)
        self._sums: list[int] = []
        self._page_parts = 0
        self._record_parts = 0

    @property
    def pages(self) -> int:
        """How many pages there were at the beginning."""
        return len(self._pages)

    @property
    def sent(self) -> int:
        """How many of them have gone out."""
        return self._sent

    def begin(self) -> list[StreamMessage]:
        """The first messages: the state of the records is that of the newest checkpoint."""
        parts = [part.encode() for part in records_parts(self._encoder.history.records, (), complete=True)]
        return [Begin(self._header), *self._records(parts)]

    def next_chunk(self) -> StreamMessage | None:
        """The next pages, or None when all have gone out."""
        pages = self._pages[self._sent : self._sent + CHUNK_PAGES]
        if not len(pages):
            return None
        self._sent += len(pages)
        return self._page(self._encoder.shared_chunk(pages))

    def end(self, captured_ns: int, *, final: bool = False) -> list[StreamMessage]:
        """The last messages: what has changed since `begin`, and the end."""
        encoder = self._encoder
        changed, removed = encoder.history.since(self._since.number)
        pages = encoder.image.changed_since(self._since.number)
        messages = self._records([part.encode() for part in records_parts(changed, removed)])
        messages += [self._page(part) for part in encoder._whole(pages)]
        header = replace(
            self._header,
            version=encoder.version,
            captured_ns=captured_ns,
            pages=self._sent + len(pages),
            parts=self._page_parts,
            final=final,
        )
        return [*messages, End(header, self._record_parts, combined_sum(self._sums))]

    def _records(self, parts: Sequence[bytes]) -> list[StreamMessage]:
        self._record_parts += len(parts)
        self._sums.extend(part_sum(part) for part in parts)
        return [RecordsMessage(part) for part in parts]

    def _page(self, part: bytes) -> PagesMessage:
        self._page_parts += 1
        self._sums.append(part_sum(part))
        return PagesMessage(part)
