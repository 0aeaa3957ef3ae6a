"""A context made visible: what a real program has, without anything of what is in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.context import layout
from agent.context.descriptor_words import described, endpoint
from agent.context.descriptors import kinds
from agent.context.layout import Area
from agent.context.network import Network
from agent.context_view import STACK_PAGES, context_view, shortened, stack_pages, stack_trace
from agent.kernel import registers
from agent.memory.page_ranges import PAGE_BYTES
from agent.primary.context_capture import ContextCapture
from agent.tracing.tracee import Tracee
from tests.agent.traced import built, running
from transport.checkpoint import Records, Version
from transport.context_schema import (
    CONNECTIONS_MAX,
    CONTEXT_BYTES_MAX,
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
from transport.control import CONTROL

VERSION = Version(1, 2, 3)


@pytest.fixture(scope="module")
def seen() -> Iterator[tuple[Context, Records]]:
    """A program with frame pointers, as it stands still."""
    with running("frames") as program:
        tracee = program.tracee
        stop_at_work(tracee)
        capture = ContextCapture(tracee, lambda path: "local")
        records = capture.capture({})
        with open(f"/proc/{program.pid}/maps", "rb") as lines:
            records[layout.KEY] = layout.encode(layout.parse_line(line.rstrip()) for line in lines)
        with open(f"/proc/{program.pid}/mem", "rb", buffering=0) as memory:
            pages = {
                number: os.pread(memory.fileno(), PAGE_BYTES, number * PAGE_BYTES) for number in stack_pages(records)
            }
        yield context_view("frames", "frames@a", VERSION, records, pages.get), records
        capture.close()
        tracee.resume()


def stop_at_work(tracee: Tracee) -> None:
    """In the loop of its innermost function: it says that it is ready in a call that has not returned yet."""
    mapped = next(line for line in Path(f"/proc/{tracee.pid}/maps").read_text().splitlines() if " r-xp " in line)
    start, end = (int(address, 16) for address in mapped.split()[0].split("-"))
    while True:
        tracee.stop(time.monotonic() + 10)
        if start <= int(tracee.block.registers[0, registers.RIP]) < end:
            return
        tracee.resume()


def test_the_stack_is_traced(seen: tuple[Context, Records]) -> None:
    thread = seen[0].threads[0]
    executable = str(built("frames"))
    assert thread.name == "frames"
    assert thread.program_counter.mapping == executable
    # middle, outermost, main
    assert [frame.mapping for frame in thread.frames[:3]] == [executable] * 3
    assert len({frame.offset for frame in thread.frames[:3]}) == 3
    assert thread.system_call is None
    assert 12 in thread.blocked  # SIGUSR2


def test_handlers_are_named(seen: tuple[Context, Records]) -> None:
    handlers = {one.name: one for one in seen[0].handlers}
    assert handlers["SIGUSR1"].handler is not None
    assert handlers["SIGUSR1"].flags == ("SA_RESTART",)
    assert handlers["SIGPIPE"].handler is None


def test_descriptors_are_told_and_never_their_contents(seen: tuple[Context, Records]) -> None:
    context = seen[0]
    told = {one.kind: one for one in context.descriptors}
    assert any(one.what.endswith(", read, 6 of 65536 bytes waiting") for one in context.descriptors)
    assert told["eventfd"].what == "count 5"
    assert 100 in told["eventfd"].numbers
    assert len(told["eventfd"].numbers) == 2
    assert told["epoll"].what.startswith("watches 1: ")
    assert told["tcp"].what.startswith("listens at 127.0.0.1:")
    assert told["tcp"].what.endswith(", backlog 7")
    assert told["timerfd"].what == "clock 1, not armed"
    assert told["signalfd"].what == "signals 12"
    assert told["memfd"].what.startswith("shared (0 bytes")
    assert told["udp"].what == "not bound"
    assert told["unix"].what.startswith("stream, pair with unix:")
    assert any(one.what.startswith("/etc/passwd (plain, read at 0") for one in context.descriptors)
    assert "secret" not in repr(context)


def test_connections_and_mappings(seen: tuple[Context, Records]) -> None:
    context = seen[0]
    assert [one.state for one in context.connections] == ["listening"]
    assert {"[stack]", "[vdso]"} <= {one.name for one in context.mappings}
    assert any(one.permissions == "r-xp" for one in context.mappings)
    assert context.omitted == {}


def test_it_travels(seen: tuple[Context, Records]) -> None:
    kind, body = CONTROL.encode(seen[0])
    assert CONTROL.decode(kind, body) == seen[0]


def test_every_kind_of_descriptor_has_words(seen: tuple[Context, Records]) -> None:
    from agent.context.descriptor_words import _WORDS

    assert {kind.name for kind in kinds(Network())} - {"unsupported"} == set(_WORDS)
    assert described("something new", b"", {}) == ""


def test_only_the_pages_that_a_trace_needs_are_asked_for(seen: tuple[Context, Records]) -> None:
    pages = stack_pages(seen[1])
    assert 0 < len(pages) <= STACK_PAGES * len(seen[0].threads)


STACK = Area(0x10000, 0x20000, 3, False, "stack", "[stack]")
CODE = Area(0x40000, 0x50000, 5, False, "file", "/code", 0x1000, "8:1", 9)


def words(rsp: int, rbp: int) -> list[int]:
    """Registers of a thread."""
    values = [0] * registers.COUNT
    values[registers.RSP], values[registers.RBP] = rsp, rbp
    return values


def memory(values: dict[int, int]) -> dict[int, bytes]:
    """Pages that hold these words, and zeros."""
    pages: dict[int, bytearray] = {}
    for address, value in values.items():
        page = pages.setdefault(address // PAGE_BYTES, bytearray(PAGE_BYTES))
        page[address % PAGE_BYTES : address % PAGE_BYTES + 8] = value.to_bytes(8, "little")
    return {number: bytes(page) for number, page in pages.items()}


@pytest.mark.parametrize(
    ("frame", "stack", "found"),
    [
        (0x10100, {0x10100: 0x10200, 0x10108: 0x40010, 0x10200: 0, 0x10208: 0x40020}, [0x40010, 0x40020]),
        (0x10100, {0x10100: 0x10100, 0x10108: 0x40010}, [0x40010]),  # a circle
        (0x10100, {0x10100: 0x10200, 0x10108: 0x10300}, []),  # returns into no code
        (0x10101, {0x10100: 0x10200, 0x10108: 0x40010}, []),  # no alignment
        (0x100F8 - 0x100, {}, []),  # below the stack pointer
        (0x1FFF8, {}, []),  # half beyond the end
        (0x19000, {}, []),  # a page that is not at hand
        (0, {}, []),
        ((1 << 64) - 8, {}, []),
    ],
)
def test_a_stack_trace_believes_nothing(frame: int, stack: dict[int, int], found: list[int]) -> None:
    assert stack_trace(words(0x10000, frame), [STACK, CODE], memory(stack).get) == found


def test_a_stack_trace_has_an_end() -> None:
    stack = {}
    for number in range(1000):
        stack[0x10000 + 16 * number] = 0x10010 + 16 * number
        stack[0x10008 + 16 * number] = 0x40000 + number
    assert len(stack_trace(words(0x10000, 0x10000), [STACK, CODE], memory(stack).get)) == FRAMES_MAX


def test_names_are_made_fit_to_be_shown() -> None:
    assert shortened("/a\udcff\n") == "/a\ufffd\ufffd"
    long = shortened("a" * 300 + "b" * 300)
    assert len(long) == TEXT_CHARS_MAX
    assert long.startswith("a")
    assert long.endswith("b")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (b"\x02\x00\x1f\x90\x7f\x00\x00\x01" + bytes(8), "127.0.0.1:8080"),
        (b"\x0a\x00\x00\x50" + bytes(4) + bytes(15) + b"\x01" + bytes(4), "[::1]:80"),
        (b"", ""),
        (b"\x0a\x00\x00\x50" + bytes(8), ""),
    ],
)
def test_endpoints(address: bytes, text: str) -> None:
    assert endpoint(address) == text


def test_the_largest_one_fits_into_its_frame() -> None:
    far, name = (1 << 64) - 1, "\u65e5" * TEXT_CHARS_MAX
    place = Place(far, "x" * TEXT_CHARS_MAX, far)
    signals = tuple(range(1, 65))
    text = "x" * TEXT_CHARS_MAX
    context = Context(
        program="p" * 63,
        instance="p" * 127,
        version=VERSION,
        executable=name,
        directory=name,
        pid=1,
        threads=(ThreadView(1 << 22, "n" * 15, place, far, 1, (place,) * FRAMES_MAX, signals, signals),) * THREADS_MAX,
        handlers=tuple(HandlerView(number, "SIGRTMIN+30", place, ("SA_RESTART",) * 7) for number in signals),
        descriptors=(DescriptorView((1 << 20, 1), "shared-file", text),) * DESCRIPTORS_MAX,
        connections=(ConnectionView(1 << 20, "half-closed", "f" * 47, "f" * 47, 1 << 30, 1 << 30),) * CONNECTIONS_MAX,
        mappings=(MappingView(far, far, "rwxp", "anonymous", text, far),) * MAPPINGS_MAX,
        omitted={"threads": 1 << 20},
    )
    _, body = CONTROL.encode(context)
    assert len(body) < CONTEXT_BYTES_MAX
