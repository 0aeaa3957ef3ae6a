"""The wire form of what changed: parts of pages (XOR, compressed, checksummed) and the records part. Pure.

Whole buffers are XORed, summed and compressed at once, never page by page; numpy, xxhash, zstandard and lz4 let other
Python threads run meanwhile. One encoder or decoder belongs to one thread. Offsets: docs/checkpoint-format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

import lz4.block
import msgpack
import numpy as np
import numpy.typing as npt
import xxhash
import zstandard

from transport.checkpoint import PAGE_BYTES, PAGE_WORDS, PART_PAGES, Records, apply_records
from transport.errors import CorruptUpdate

Codec = Literal["zstd", "lz4"]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

PAGE_MAGIC: Final = b"KGPP"
RECORDS_MAGIC: Final = b"KGRP"
FORMAT: Final = 1
ABSOLUTE: Final = 1
"""Flag of a page part: the pages are whole, no base is needed."""
COMPLETE: Final = 1
"""Flag of a records part: it holds all records; what it lacks is removed."""
PAGE_NUMBER_END: Final = 1 << 52
RECORDS_BYTES_MAX: Final = 8 << 20
"""Most bytes of one records part before compression; `records_parts` splits what is larger."""

_STORED, _ZSTD, _LZ4 = 0, 1, 2
_CODECS: Final[dict[str, int]] = {"zstd": _ZSTD, "lz4": _LZ4}
_PAGE_HEAD: Final = struct.Struct("<4sBBBBIIQQ")
_RECORDS_HEAD: Final = struct.Struct("<4sBBBBII")
_SUM: Final = struct.Struct("<Q")
_NAME_BYTES: Final = 16
"""At least what msgpack adds to a record and its name."""
PAGE_BODY_OFFSET: Final = _PAGE_HEAD.size + _SUM.size
RECORDS_BODY_OFFSET: Final = _RECORDS_HEAD.size + _SUM.size


def _sum(buffer: Words) -> int:
    return xxhash.xxh3_64_intdigest(buffer)  # type: ignore[arg-type, unused-ignore]


def _touched(size: int) -> npt.NDArray[np.uint8]:
    """Return a buffer of `size` bytes whose every page is already there: the first touch costs more than the XOR."""
    buffer = np.empty(size, dtype=np.uint8)
    buffer.fill(1)
    return buffer


def _mask_bytes(count: int, absolute: bool) -> int:
    """Return the size of the fresh mask: a bit for each page, up to whole words, so that the contents stay aligned."""
    return 0 if absolute else (count + 63) // 64 * 8


def _plain_bytes(count: int, absolute: bool) -> int:
    return count * 8 + _mask_bytes(count, absolute) + count * PAGE_BYTES


def _corrupt(what: str) -> NoReturn:
    raise CorruptUpdate(what)


def _sealed(head: bytes, body: bytes) -> bytes:
    return b"".join((head, _SUM.pack(_seal(head, body)), body))


def _seal(head: bytes | memoryview, body: bytes | memoryview) -> int:
    digest = xxhash.xxh3_64(head)
    digest.update(body)
    return digest.intdigest()


def part_sum(part: bytes | memoryview) -> int:
    """Return the checksum that an encoded part (of pages or of records) carries; it covers all of the part's bytes.

    Raises CorruptUpdate when the bytes are no part.
    """
    view = memoryview(part)
    magic = bytes(view[:4])
    offset = _PAGE_HEAD.size if magic == PAGE_MAGIC else _RECORDS_HEAD.size
    if magic not in (PAGE_MAGIC, RECORDS_MAGIC) or len(view) < offset + _SUM.size:
        _corrupt(f"{len(view)} bytes that should be a part of a checkpoint are none")
    return int(_SUM.unpack_from(view, offset)[0])


def verify_part(part: bytes | memoryview, magic: bytes) -> int:
    """Return the checksum of an encoded part of the kind that `magic` says, having compared it with all its bytes.

    Raises CorruptUpdate when it is no such part or the checksum is another.
    """
    view = memoryview(part)
    carried = part_sum(view)
    if bytes(view[:4]) != magic:
        _corrupt(f"a part begins with {bytes(view[:4])!r} instead of {magic!r}")
    size = _PAGE_HEAD.size if magic == PAGE_MAGIC else _RECORDS_HEAD.size
    if _seal(view[:size], view[size + _SUM.size :]) != carried:
        _corrupt(f"a part of {len(view)} bytes has another checksum than it carries")
    return carried


class PagePartEncoder:
    """Encodes up to PART_PAGES pages at once, in buffers of its own that are allocated and touched once.

    `codec`: "zstd" (level 1; 1.7 times smaller on the pages of a redis) or "lz4" (1.3 to 1.6 times faster there;
    `make bench-codec` measures both).
    """

    def __init__(self, codec: Codec = "zstd") -> None:
        if codec not in _CODECS:
            raise ValueError(f"codec {codec!r} is none of {', '.join(_CODECS)}")
        self._codec = _CODECS[codec]
        self._plain = _touched(_plain_bytes(PART_PAGES, False))
        self._contents_at = PART_PAGES * 8 + _mask_bytes(PART_PAGES, False)
        self._contents = self._plain[self._contents_at :].view(np.uint64).reshape(PART_PAGES, PAGE_WORDS)
        self._numbers = np.zeros(PART_PAGES, np.uint64)
        self._fresh = np.zeros(PART_PAGES, np.bool_)
        self._zstd = zstandard.ZstdCompressor(level=1, write_content_size=True, write_checksum=False)
        self._begin()

    def _begin(self) -> None:
        self.count = 0
        self._absolute = False
        self._base_sum, self._new_sum = xxhash.xxh3_64(), xxhash.xxh3_64()

    @property
    def room(self) -> int:
        """How many more pages this part can hold."""
        return PART_PAGES - self.count

    def add(self, pages: Words, base: Words | None, new: Words, fresh: Mask | None) -> None:
        """Append a block of pages to the part: a part that is made of small blocks stays in the processor's caches.

        As `encode`, but the rows of fresh pages in `base` must be zeros already. All blocks of a part have a base, or
        none has. Raises ValueError when there is no `room`, or shapes or order are wrong: a mistake of the caller.
        """
        start, count = self.count, self.count + len(pages)
        absolute = base is None
        if start and absolute != self._absolute:
            raise ValueError("a part has a base for all of its pages, or for none")
        self._check(pages, base, new, fresh, self._numbers[start - 1 : start])
        if not len(pages):
            self._absolute = absolute if not start else self._absolute
            return
        self._absolute, self.count = absolute, count
        self._numbers[start:count] = pages
        contents = self._contents[start:count]
        if base is None or fresh is None:
            np.copyto(contents, new)
        else:
            self._fresh[start:count] = fresh
            self._base_sum.update(base.data)
            np.bitwise_xor(base, new, out=contents)
        self._new_sum.update(new.data)

    def finish(self) -> bytes:
        """Return the part that the blocks make, and begin another one."""
        count, absolute = self.count, self._absolute
        mask_bytes = _mask_bytes(count, absolute)
        # What stands before the contents is of the right length only now.
        plain = self._plain[self._contents_at - count * 8 - mask_bytes : self._contents_at + count * PAGE_BYTES]
        numbers = plain[: count * 8].view(np.uint64)
        numbers[:1] = self._numbers[:1] if count else 0
        np.subtract(self._numbers[1:count], self._numbers[: max(count - 1, 0)], out=numbers[1:])
        if mask_bytes:
            mask = plain[count * 8 : count * 8 + mask_bytes]
            mask.fill(0)
            mask[: (count + 7) // 8] = np.packbits(self._fresh[:count], bitorder="little")
        base_sum = 0 if absolute else self._base_sum.intdigest()
        new_sum = self._new_sum.intdigest()
        codec, body = self._compress(plain)
        flags = ABSOLUTE if absolute else 0
        head = _PAGE_HEAD.pack(PAGE_MAGIC, FORMAT, codec, flags, 0, count, len(body), base_sum, new_sum)
        self._begin()
        return _sealed(head, body)

    def encode(self, pages: Words, base: Words | None, new: Words, fresh: Mask | None) -> bytes:
        """Return the part that leads from `base` to `new`.

        pages: u64[n], strictly ascending, n <= PART_PAGES. base, new: u64[n, 512], C-contiguous. fresh: bool[n],
        pages that the receiver may hold otherwise or not at all: they count as zeros in the base. `base` (and then
        `fresh`) None: the pages travel whole and need no base. The arguments are only read.
        Raises ValueError when shapes or order are wrong, or blocks wait for `finish`: a mistake of the caller.
        """
        if self.count:
            raise ValueError("a part is under way")
        if base is not None and fresh is not None and fresh.shape == base.shape[:1] and fresh.any():
            base = base.copy()
            base[fresh] = 0
        self.add(pages, base, new, fresh)
        return self.finish()

    def _compress(self, plain: npt.NDArray[np.uint8]) -> tuple[int, bytes]:
        if not plain.size:
            return _STORED, b""
        zstd = self._codec == _ZSTD
        body = self._zstd.compress(plain.data) if zstd else lz4.block.compress(plain, store_size=False)
        return (self._codec, body) if len(body) < plain.size else (_STORED, plain.tobytes())

    def _check(self, pages: Words, base: Words | None, new: Words, fresh: Mask | None, last: Words) -> None:
        count = len(pages)
        if count > self.room:
            raise ValueError(f"{self.count + count} pages in one part; at most {PART_PAGES}")
        if (base is None) != (fresh is None):
            raise ValueError("a part has a base and a fresh mask, or neither")
        for name, array in (("base", base), ("new", new)):
            if array is not None and (array.shape != (count, PAGE_WORDS) or array.dtype != np.uint64):
                raise ValueError(f"{name} of a part of {count} pages is {array.dtype}{list(array.shape)}")
        if fresh is not None and (fresh.shape != (count,) or fresh.dtype != np.bool_):
            raise ValueError(f"fresh of a part of {count} pages is {fresh.dtype}{list(fresh.shape)}")
        ascending = (pages[1:] > pages[:-1]).all() and not (len(last) and count and pages[0] <= last[0])
        if count and (int(pages[-1]) >= PAGE_NUMBER_END or not ascending):
            raise ValueError("page numbers of a part do not ascend strictly below 2**52")


@dataclass(frozen=True, slots=True, eq=False)
class PagePart:
    """A decoded part. Its arrays live in the decoder's buffers: they are valid until its next `decode`.

    pages: u64[n] ascending. fresh: bool[n], all True in an absolute part. xor: u64[n, 512], whole pages if absolute.
    base_sum, result_sum: xxh3-64 of the base (0 if absolute) and of the result.
    """

    pages: Words
    fresh: Mask
    xor: Words
    base_sum: int
    result_sum: int
    absolute: bool

    def resolve(self, base: Words | None, out: Words) -> None:
        """Write the pages that this part leads to into `out` (u64[n, 512]); `out` may be `base`.

        base: u64[n, 512], what is held now of `pages`; its fresh rows are set to zero here. Not looked at (may be
        None) if the part is absolute. Raises CorruptUpdate when the base or the result has another checksum; `out`
        must then be thrown away.
        """
        if self.absolute:
            np.copyto(out, self.xor)
        elif base is None:
            raise ValueError("this part needs its base")
        else:
            base[self.fresh] = 0
            if _sum(base) != self.base_sum:
                _corrupt(f"the base of {len(self.pages)} pages{self._place()} has another checksum than the update's")
            np.bitwise_xor(base, self.xor, out=out)
        if _sum(out) != self.result_sum:
            _corrupt(f"the result of {len(self.pages)} pages{self._place()} has another checksum than the update's")

    def _place(self) -> str:
        return f" from address {int(self.pages[0]) * PAGE_BYTES:#x}" if len(self.pages) else ""


class PagePartDecoder:
    """Decodes parts into a buffer of its own that is allocated and touched once (8.1 MiB)."""

    def __init__(self) -> None:
        self._plain = _touched(_plain_bytes(PART_PAGES, False))
        self._all_fresh = np.ones(PART_PAGES, dtype=np.bool_)
        self._zstd = zstandard.ZstdDecompressor()

    def decode(self, part: bytes | memoryview) -> PagePart:
        """Return the part; its checksum, limits and page numbers are verified.

        Raises CorruptUpdate, naming what is wrong.
        """
        view = memoryview(part)
        if len(view) < PAGE_BODY_OFFSET:
            _corrupt(f"a page part of {len(view)} bytes is shorter than its header")
        magic, version, codec, flags, zero, count, size, base_sum, result_sum = _PAGE_HEAD.unpack_from(view)
        body = view[PAGE_BODY_OFFSET:]
        if magic != PAGE_MAGIC or version != FORMAT or zero or flags & ~ABSOLUTE:
            _corrupt("a page part has an unknown magic, format or flag")
        if size != len(body) or count > PART_PAGES:
            _corrupt(f"a page part says {count} pages in {size} bytes; it has {len(body)} bytes")
        verify_part(view, PAGE_MAGIC)
        absolute = bool(flags & ABSOLUTE)
        plain = self._decompress(codec, body, _plain_bytes(count, absolute))
        pages = np.cumsum(plain[: count * 8].view(np.uint64), dtype=np.uint64)
        # A difference that wraps around shows as a descent: together the two checks leave no wrong sum.
        if count and (int(pages.max()) >= PAGE_NUMBER_END or not (pages[1:] > pages[:-1]).all()):
            _corrupt("page numbers of a part do not ascend strictly below 2**52")
        if absolute:
            fresh = self._all_fresh[:count]
        else:
            bits = plain[count * 8 : count * 8 + _mask_bytes(count, False)]
            fresh = np.unpackbits(bits, count=count, bitorder="little").view(np.bool_)
        xor = plain[count * 8 + _mask_bytes(count, absolute) :].view(np.uint64).reshape(count, PAGE_WORDS)
        return PagePart(pages, fresh, xor, base_sum, result_sum, absolute)

    def _decompress(self, codec: int, body: memoryview, size: int) -> npt.NDArray[np.uint8]:
        plain = self._plain[:size]
        if codec == _STORED:
            if len(body) != size:
                _corrupt(f"a stored part has {len(body)} bytes instead of {size}")
            plain[:] = np.frombuffer(body, dtype=np.uint8)
        elif codec == _ZSTD:
            self._inflate(body, plain)
        elif codec == _LZ4:
            try:
                whole = lz4.block.decompress(body, uncompressed_size=size)
            except (lz4.block.LZ4BlockError, ValueError) as error:
                raise CorruptUpdate(f"a part of {len(body)} bytes can't be decompressed: {error}") from None
            if len(whole) != size:
                _corrupt(f"a part decompresses to {len(whole)} bytes instead of {size}")
            # lz4 has no call that fills a given buffer; its own result saves one copy.
            plain = np.frombuffer(whole, dtype=np.uint8)
        else:
            _corrupt(f"a part has the unknown codec {codec}")
        return plain

    def _inflate(self, body: memoryview, plain: npt.NDArray[np.uint8]) -> None:
        try:
            with self._zstd.stream_reader(body) as reader:
                filled = 0
                while filled < plain.size:
                    got = reader.readinto(plain[filled:].data)
                    if not got:
                        break
                    filled += got
                rest = reader.read(1)
        except zstandard.ZstdError as error:
            raise CorruptUpdate(f"a part of {len(body)} bytes can't be decompressed: {error}") from None
        if filled != plain.size or rest:
            _corrupt(f"a part decompresses to another size than {plain.size} bytes")


@dataclass(frozen=True, slots=True)
class RecordsPart:
    """What changed of the records. complete: the base's records are dropped first; `changed` does not build on them."""

    changed: Records
    removed: tuple[str, ...]
    complete: bool = False

    def encode(self) -> bytes:
        """Return the wire form: equal parts have equal bytes. Raises ValueError beyond RECORDS_BYTES_MAX."""
        plain = msgpack.packb([dict(sorted(self.changed.items())), sorted(self.removed)], use_bin_type=True)
        if len(plain) > RECORDS_BYTES_MAX:
            raise ValueError(f"{len(plain)} bytes of records; at most {RECORDS_BYTES_MAX}")
        codec, body = _ZSTD, zstandard.ZstdCompressor(level=1).compress(plain)
        if len(body) >= len(plain):
            codec, body = _STORED, plain
        flags = COMPLETE if self.complete else 0
        return _sealed(_RECORDS_HEAD.pack(RECORDS_MAGIC, FORMAT, codec, flags, 0, len(plain), len(body)), body)

    @staticmethod
    def decode(part: bytes | memoryview) -> RecordsPart:
        """Return the part; checksum, limits and types are verified. Raises CorruptUpdate, naming what is wrong."""
        view = memoryview(part)
        if len(view) < RECORDS_BODY_OFFSET:
            _corrupt(f"a records part of {len(view)} bytes is shorter than its header")
        magic, version, codec, flags, zero, size, packed = _RECORDS_HEAD.unpack_from(view)
        body = view[RECORDS_BODY_OFFSET:]
        if magic != RECORDS_MAGIC or version != FORMAT or zero or flags & ~COMPLETE:
            _corrupt("a records part has an unknown magic, format or flag")
        if packed != len(body) or size > RECORDS_BYTES_MAX:
            _corrupt(f"a records part says {size} bytes in {packed}; it has {len(body)}")
        verify_part(view, RECORDS_MAGIC)
        changed, removed = _checked_records(_unpacked(codec, body, size))
        return RecordsPart(changed, removed, bool(flags & COMPLETE))

    def apply(self, old: Mapping[str, bytes]) -> Records:
        """Return the records after this part. Raises CorruptUpdate when `old` lacks a key that is to be removed."""
        return dict(self.changed) if self.complete else apply_records(old, self.changed, self.removed)


def records_parts(changed: Mapping[str, bytes], removed: Iterable[str], complete: bool = False) -> list[RecordsPart]:
    """Return the parts, at least one, that carry these records, each within RECORDS_BYTES_MAX; to be applied in order.

    With `complete`, `changed` is all that there is; only the first part says so, the others add to it.
    Raises ValueError when a single record does not fit.
    """
    whole = RECORDS_BYTES_MAX - 64
    parts: list[RecordsPart] = []
    some: Records = {}
    names, room = tuple(removed), whole
    room -= sum(len(name.encode()) + _NAME_BYTES for name in names)
    for key, value in changed.items():
        size = len(key.encode()) + len(value) + _NAME_BYTES
        if size > room and some:
            parts.append(RecordsPart(some, names, complete and not parts))
            some, names, room = {}, (), whole
        if size > room:
            raise ValueError(f"record {key!r} has {len(value)} bytes; a part holds {RECORDS_BYTES_MAX}")
        some[key] = value
        room -= size
    parts.append(RecordsPart(some, names, complete and not parts))
    return parts


def _unpacked(codec: int, body: memoryview, size: int) -> object:
    if codec not in (_STORED, _ZSTD):
        _corrupt(f"a records part has the unknown codec {codec}")
    try:
        plain = bytes(body) if codec == _STORED else zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
        if len(plain) != size:
            _corrupt(f"a records part decompresses to {len(plain)} bytes instead of {size}")
        content: object = msgpack.unpackb(plain, raw=False, strict_map_key=True, use_list=False)
    except (zstandard.ZstdError, ValueError, msgpack.UnpackException) as error:
        raise CorruptUpdate(f"a records part can't be decoded: {error}") from None
    return content


def _checked_records(content: object) -> tuple[Records, tuple[str, ...]]:
    if not (isinstance(content, tuple) and len(content) == 2):
        _corrupt("a records part is no pair of changed and removed records")
    changed, removed = content
    if not isinstance(changed, dict) or not isinstance(removed, tuple):
        _corrupt("a records part is no pair of changed and removed records")
    if not all(type(key) is str and type(value) is bytes for key, value in changed.items()):
        _corrupt("a changed record is not a name with bytes")
    if not _are_names(removed):
        _corrupt("a removed record is not a name")
    return changed, removed


def _are_names(items: Iterable[object]) -> bool:
    return all(type(item) is str for item in items)
