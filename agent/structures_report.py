"""Named structures of a program that is mirrored as a whole, on request: found in its newest checkpoint, by name, or,
where one is read more often, as it was read after that.

Where they are is worked out from the record of its memory map and from its files, outside of the tracer thread; their
bytes are read in it. What is in them goes to whoever asked, and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from agent.context import layout, process
from agent.context.layout import EXECUTE, READ, WRITE, Area
from agent.errors import StructureError
from agent.instance import Instance
from agent.kernel.procfs import Mapping
from agent.kernel.vm import Contents
from agent.memory.image import Image
from agent.memory.page_ranges import PAGE_BYTES, Pages
from agent.structures.finding import Loaded, Structure, find_loaded
from agent.structures.layout import Opaque
from agent.structures.shown import shown
from agent.structures.table import StructureTable
from transport.checkpoint import NOTHING, Records
from transport.errors import ControlError
from transport.structure_view import GetStructures, Structures, StructureView

ATTEMPTS: Final = 5
"""How often the structures are looked for if the program maps memory meanwhile."""

Pieces = tuple[tuple[int, int], ...]
"""Address and number of bytes of each piece of memory that a structure lies in, in its own order."""


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The newest one. captured_ns: CLOCK_REALTIME of its stop, on the node where that was."""

    records: Records
    captured_ns: int


@dataclass(frozen=True, slots=True)
class _Sample:
    """What was read of a structure after the newest checkpoint. content: None where it is not asked for."""

    version: int
    captured_ns: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A structure and where it is, or why it can't be found."""

    table: StructureTable
    structure: Structure | None = None
    pieces: Pieces = ()
    trouble: str = ""

    def view(self, age_ms: float | None, content: str = "", trouble: str = "", version: int = 0) -> StructureView:
        size = 0 if self.structure is None else self.structure.size
        source = self.table.source
        return StructureView(self.table.title, source, size, version, age_ms, self.trouble or trouble, content)


async def structures_of(instance: Instance, request: GetStructures) -> Structures:
    """The structures of the newest checkpoint that the instance has taken or holds; the content of one, if it is named.

    Raises ControlError before the first checkpoint, for a name that there is not, and for a program that maps memory
    so often that none of its structures could be read.
    """
    tables = instance.definition.structures
    names = [table.title for table in tables]
    if request.name and request.name not in names:
        hint = f"it has {', '.join(names)}" if names else "name it in [[structures]] of its program.toml"
        raise ControlError(f"{instance.name} has no structure {request.name}", hint=hint)
    for _ in range(ATTEMPTS):
        views = await _look(instance, tables, request)
        if views is not None:
            return Structures(instance.definition.program.id, instance.name, instance.role, views)
    raise ControlError(f"the memory of {instance.name} is laid out anew all the time", hint="ask once more")


async def _look(
    instance: Instance, tables: tuple[StructureTable, ...], request: GetStructures
) -> tuple[StructureView, ...] | None:
    """One attempt; nothing if the memory was laid out anew between finding and reading."""
    tracer = instance.around.tracer
    newest = await tracer.call(lambda: _newest(instance))
    if newest is None:
        raise ControlError(f"{instance.name} has no context yet", hint="wait until it is mirrored")
    found = await asyncio.to_thread(_find, tables, newest.records[layout.KEY], newest.records[process.KEY])
    samples, troubles = await tracer.call(lambda: (_samples(instance, request.name), _troubles(instance)))
    views = []
    for one in found:
        sample, trouble = samples.get(one.table.title), troubles.get(one.table.title, "")
        if one.structure is None:
            views.append(one.view(None))
            continue
        if sample is not None:
            views.append(await asyncio.to_thread(_view_sample, one, one.structure, sample, request.elements))
            continue
        if one.table.title != request.name:
            views.append(one.view(_age_ms(newest.captured_ns), trouble=trouble))
            continue
        answer = await tracer.call(lambda one=one: _read(instance, newest, one.pieces))  # type: ignore[misc]
        if answer is None:
            return None
        read, content = answer
        text, unshown = await asyncio.to_thread(shown, one.structure.layout, content, request.elements)
        views.append(one.view(_age_ms(read.captured_ns), text, unshown or trouble))
    return tuple(views)


def _view_sample(found: _Found, structure: Structure, sample: _Sample, elements: int) -> StructureView:
    text, trouble = "", ""
    if sample.content is not None:
        text, trouble = shown(structure.layout, sample.content, elements)
    return found.view(_age_ms(sample.captured_ns), text, trouble, sample.version)


def _age_ms(captured_ns: int) -> float:
    return max(time.time_ns() - captured_ns, 0) / 1e6


def _samples(instance: Instance, wanted: str) -> dict[str, _Sample]:
    """In the tracer thread: what is newer than the newest checkpoint, by its name; the content of the wanted one."""
    serving, follower = instance.serving, instance.follower
    if serving is not None:
        version, read = serving.publication.encoder.version, serving.samples
        newest = {} if read is None else read.newest(version)
    else:
        newest = {} if follower is None else follower.samples.newest(follower.version)
    return {
        name: _Sample(one.version, one.captured_ns, one.content if name == wanted else None)
        for name, one in newest.items()
    }


def _troubles(instance: Instance) -> dict[str, str]:
    """In the tracer thread: why a structure is not read between checkpoints; only a primary knows."""
    serving = instance.serving
    return {} if serving is None or serving.samples is None else dict(serving.samples.troubles)


def _newest(instance: Instance) -> _Checkpoint | None:
    """In the tracer thread."""
    if instance.serving is not None:
        publication = instance.serving.publication
        records = publication.encoder.history.records
        if not publication.dated or layout.KEY not in records:
            return None
        return _Checkpoint(dict(records), publication.dated[-1].captured_ns)
    follower = instance.follower
    if follower is None or follower.version == NOTHING or follower.held.header is None:
        return None
    return _Checkpoint(dict(follower.held.records), follower.held.header.captured_ns)


def _read(instance: Instance, known: _Checkpoint, pieces: Pieces) -> tuple[_Checkpoint, bytes] | None:
    """In the tracer thread: the bytes, and the checkpoint that they are of, which may be newer than the known one.

    Nothing if its memory is laid out in another way than in the known one.
    """
    newest = _newest(instance)
    if newest is None or newest.records[layout.KEY] != known.records[layout.KEY]:
        return None
    content = b"".join(_read_piece(instance, newest.records, start, size) for start, size in pieces)
    return newest, content


def _read_piece(instance: Instance, records: Records, start: int, size: int) -> bytes:
    first, end = start // PAGE_BYTES, -(-(start + size) // PAGE_BYTES)
    pages = np.arange(first, end, dtype=np.uint64)
    contents = np.zeros((len(pages), PAGE_BYTES // 8), np.uint64)
    if instance.serving is not None:
        image = instance.serving.publication.encoder.image
        image.read(pages, contents)
        _read_files(image, records, pages, contents)
    elif instance.follower is not None and instance.follower.double is not None:
        instance.follower.double.read_pages(pages, contents)
    return contents.tobytes()[start - first * PAGE_BYTES :][:size]


def _read_files(image: Image, records: Records, pages: Pages, contents: Contents) -> None:
    """Fill in what an image does not hold, because it still is what the file behind it is."""
    areas = layout.decode(records[layout.KEY])
    root = _root(records)
    for row in np.flatnonzero(~np.isin(pages, image.pages_known())).tolist():
        address = int(pages[row]) * PAGE_BYTES
        area = layout.area_at(areas, address)
        if area is not None and area.kind == "file":
            with open(root + area.path, "rb") as file:
                page = os.pread(file.fileno(), PAGE_BYTES, area.offset + address - area.start)
            contents[row] = np.frombuffer(page.ljust(PAGE_BYTES, b"\0"), np.uint64)


def _root(records: Records) -> str:
    return os.fsdecode(process.record_of(records).root).rstrip("/")


@lru_cache(maxsize=1)
def _find(tables: tuple[StructureTable, ...], mapped: bytes, of_process: bytes) -> list[_Found]:
    """By the records of the memory map and of the process. Reads debug information, which may take long."""
    areas = layout.decode(mapped)
    records = {layout.KEY: mapped, process.KEY: of_process}
    executable = os.fsdecode(process.record_of(records).executable)
    loaded = Loaded(0, executable, [_mapping(area) for area in areas], _root(records))
    return [_find_one(table, loaded, areas) for table in tables]


def _find_one(table: StructureTable, loaded: Loaded, areas: list[Area]) -> _Found:
    try:
        if table.file is not None:
            found = _mapped_file(table, areas)
        else:
            symbol, library = table.symbol or "", table.library or ""
            place = find_loaded(loaded, symbol, library=library, name=table.title, exclude=table.exclude, travels=False)
            found = _Found(table, place.structure, ((place.address, place.structure.size),))
        if found.structure is not None:
            table.check_size(found.structure.size)
        return found
    except StructureError as error:
        return _Found(table, trouble=error.what)
    except OSError as error:
        return _Found(table, trouble=f"{error.filename}: {error.strerror}")


def _mapped_file(table: StructureTable, areas: list[Area]) -> _Found:
    """A file that the program has mapped: its areas, one behind the other."""
    own = sorted((area for area in areas if area.path == table.file), key=lambda area: area.offset)
    size = max((area.size for area in own), default=0)
    pieces, reached = [], 0
    for area in own:
        end = min(area.offset + area.end - area.start, size)
        if area.offset <= reached < end:
            pieces.append((area.start + reached - area.offset, end - reached))
            reached = end
    if not own or reached < size:
        raise StructureError(f"{table.file} is not mapped completely by the program", hint="name a file that is")
    return _Found(table, Structure(table.title, Opaque(size)), tuple(pieces))


def _mapping(area: Area) -> Mapping:
    bits = (("r", READ), ("w", WRITE), ("x", EXECUTE))
    permissions = "".join(letter if area.protection & bit else "-" for letter, bit in bits)
    name = area.path + (" (deleted)" if area.deleted else "")
    return Mapping(
        area.start, area.end, permissions + ("s" if area.shared else "p"), area.offset, area.device, area.inode, name
    )
