"""From the records of a checkpoint to a schema that a person can read: what there is and where, no contents. Pure.

A stack trace follows the chain of frame pointers (System V ABI, AMD64, 3.2.2): rbp points to the caller's rbp, and
above it stands the address to return to. Code that was compiled without them ends the trace; whatever does not look
like a frame does, too.
"""

from __future__ import annotations

import signal
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from agent.context import layout, process, signals, threads
from agent.context.descriptor_words import connection_of, described
from agent.context.layout import EXECUTE, READ, WRITE, Area, area_at
from agent.context.process import ProcessRecord
from agent.context.record import unpack
from agent.context.signals import SIG_DFL, SIG_IGN, SignalsRecord
from agent.context.table import DESCRIPTION, NUMBER, Number
from agent.context.threads import ThreadRecord
from agent.kernel import ptrace, registers
from agent.memory.page_ranges import PAGE_BYTES
from transport.checkpoint import Records, Version
from transport.context_schema import (
    CONNECTIONS_MAX,
    DESCRIPTORS_MAX,
    FRAMES_MAX,
    MAPPINGS_MAX,
    TEXT_CHARS_MAX,
    THREADS_MAX,
    ConnectionView,
    Context,
    DescriptorView,
    HandlerView,
    MappingView,
    Place,
    ThreadView,
)

STACK_PAGES: Final = 8
"""How far up its stack a thread is looked at, from its stack pointer."""
_WORD: Final = 8
_FLAGS: Final = {
    0x1: "SA_NOCLDSTOP",
    0x2: "SA_NOCLDWAIT",
    0x4: "SA_SIGINFO",
    0x0800_0000: "SA_ONSTACK",
    0x1000_0000: "SA_RESTART",
    0x4000_0000: "SA_NODEFER",
    0x8000_0000: "SA_RESETHAND",
}
"""Of sigaction(2); SA_RESTORER, which every C library sets, says nothing to a person."""

_REAL_TIME: Final = 34
"""The first one that the C library leaves to programs (nptl(7)); the two before it are its own."""
_NAMES: Final = {int(one): one.name for one in signal.Signals} | {32: "SIGCANCEL", 33: "SIGSETXID"}

ReadPage = Callable[[int], bytes | None]
"""A page's number -> its content, None where it is not at hand."""
T = TypeVar("T")


def stack_pages(records: Records) -> list[int]:
    """The numbers of the pages that stack traces need, ascending: no more than STACK_PAGES for each thread."""
    areas = layout.decode(records[layout.KEY])
    wanted: set[int] = set()
    for number in threads.numbers(records)[:THREADS_MAX]:
        pointer = _words(_thread(records, number))[registers.RSP]
        area = area_at(areas, pointer)
        if area is not None and area.protection & READ:
            first = pointer // PAGE_BYTES
            wanted.update(range(first, min(first + STACK_PAGES, area.end // PAGE_BYTES)))
    return sorted(wanted)


def context_view(program: str, instance: str, version: Version, records: Records, read: ReadPage) -> Context:
    """The schema of one complete checkpoint. Raises RestoreError for records that are none."""
    areas = layout.decode(records[layout.KEY])
    of_process = unpack(ProcessRecord, records[process.KEY], process.KEY)
    omitted: dict[str, int] = {}

    def cut(name: str, values: Sequence[T], most: int) -> tuple[T, ...]:
        if len(values) > most:
            omitted[name] = len(values) - most
        return tuple(values[:most])

    numbers = cut("threads", threads.numbers(records), THREADS_MAX)
    return Context(
        program=program,
        instance=instance,
        version=version,
        executable=_path(of_process.executable),
        directory=_path(of_process.directory),
        pid=of_process.number,
        threads=tuple(_thread_view(number, _thread(records, number), areas, read) for number in numbers),
        handlers=tuple(_handlers(records, areas)),
        descriptors=cut("descriptors", list(_descriptors(records)), DESCRIPTORS_MAX),
        connections=cut("connections", list(_connections(records)), CONNECTIONS_MAX),
        mappings=cut("mappings", [_mapping_view(area) for area in areas], MAPPINGS_MAX),
        omitted=omitted,
    )


def _path(path: bytes) -> str:
    return shortened(path.decode(errors="surrogateescape"))


def shortened(text: str) -> str:
    """Text that can travel and be shown: valid, without control characters, and not too long."""
    text = text.encode(errors="surrogateescape").decode(errors="replace")
    text = "".join(one if one.isprintable() else "\ufffd" for one in text)
    if len(text) <= TEXT_CHARS_MAX:
        return text
    half = TEXT_CHARS_MAX // 2
    return f"{text[: half - 1]}…{text[-half:]}"


# ------------------------------------------------------------ threads


def _thread(records: Records, number: int) -> ThreadRecord:
    key = f"{threads.PREFIX}{number}"
    return unpack(ThreadRecord, records[key], key)


def _words(record: ThreadRecord) -> tuple[int, ...]:
    return struct.unpack(f"<{registers.COUNT}Q", record.registers)


def _thread_view(number: int, record: ThreadRecord, areas: Sequence[Area], read: ReadPage) -> ThreadView:
    words = _words(record)
    call = words[registers.ORIG_RAX]
    return ThreadView(
        tid=number,
        name=_path(record.name),
        program_counter=place(areas, words[registers.RIP]),
        stack_pointer=words[registers.RSP],
        system_call=None if call >> 31 else call,
        frames=tuple(place(areas, address) for address in stack_trace(words, areas, read)),
        blocked=tuple(number for number in range(1, signals.SIGNALS_MAX + 1) if record.mask >> (number - 1) & 1),
        pending=tuple(sorted(_pending(record.pending))),
    )


def _pending(siginfos: bytes) -> Iterable[int]:
    size = ptrace.SIGINFO_BYTES
    return {struct.unpack_from("<i", siginfos, at)[0] for at in range(0, len(siginfos) // size * size, size)}


def stack_trace(words: Sequence[int], areas: Sequence[Area], read: ReadPage) -> list[int]:
    """The addresses to which a thread's functions will return, the innermost first. words: its registers.

    Each frame lies above the one before, in the same mapping as the stack pointer, and returns into code.
    """
    stack = area_at(areas, words[registers.RSP])
    frame, floor = words[registers.RBP], words[registers.RSP]
    found: list[int] = []
    while stack is not None and len(found) < FRAMES_MAX:
        if frame % _WORD or not floor <= frame <= stack.end - 2 * _WORD:
            break
        saved, returns_to = _word_at(frame, read), _word_at(frame + _WORD, read)
        code = None if returns_to is None else area_at(areas, returns_to)
        if saved is None or returns_to is None or code is None or not code.protection & EXECUTE:
            break
        found.append(returns_to)
        floor, frame = frame + 2 * _WORD, saved
    return found


def _word_at(address: int, read: ReadPage) -> int | None:
    page = read(address // PAGE_BYTES)
    return None if page is None else int(struct.unpack_from("<Q", page, address % PAGE_BYTES)[0])


def place(areas: Sequence[Area], address: int) -> Place:
    """An address with what is mapped there."""
    area = area_at(areas, address)
    if area is None:
        return Place(address, "", 0)
    return Place(address, shortened(area.path), address - area.start + area.offset)


# ------------------------------------------------------------ signals


def _handlers(records: Records, areas: Sequence[Area]) -> Iterable[HandlerView]:
    record = unpack(SignalsRecord, records[signals.KEY], signals.KEY)
    for number, action in record.actions:
        handler, flags = struct.unpack_from("<QQ", action)
        if handler == SIG_DFL and not flags & 0x3:
            continue
        names = tuple(name for bit, name in _FLAGS.items() if flags & bit)
        acts = None if handler in (SIG_DFL, SIG_IGN) else place(areas, handler)
        yield HandlerView(number, _signal_name(number), acts, names)


def _signal_name(number: int) -> str:
    if number in _NAMES:
        return _NAMES[number]
    return f"SIGRTMIN+{number - _REAL_TIME}" if number > _REAL_TIME else f"signal {number}"


# ------------------------------------------------------------ descriptors and memory


def _descriptors(records: Records) -> Iterable[DescriptorView]:
    numbers: dict[str, list[int]] = {}
    for key in sorted((key for key in records if key.startswith(NUMBER)), key=lambda key: int(key[len(NUMBER) :])):
        numbers.setdefault(unpack(Number, records[key], key).key, []).append(int(key[len(NUMBER) :]))
    for key, sharing in numbers.items():
        kind = key.partition(":")[0]
        yield DescriptorView(tuple(sharing), kind, shortened(described(kind, records[DESCRIPTION + key], records)))


def _connections(records: Records) -> Iterable[ConnectionView]:
    keys = [key for key in records if key.startswith(f"{DESCRIPTION}tcp:")]
    for key in sorted(keys, key=lambda key: int(key.partition(":")[2])):
        yield connection_of(int(key.partition(":")[2]), records[key])


def _mapping_view(area: Area) -> MappingView:
    permissions = "".join(
        letter if area.protection & bit else "-" for letter, bit in zip("rwx", (READ, WRITE, EXECUTE), strict=True)
    )
    name = shortened(area.path) + (" (deleted)" if area.deleted else "")
    return MappingView(area.start, area.end, permissions + ("s" if area.shared else "p"), area.kind, name, area.offset)
