"""Many system calls inside a shadow at one stop.

Single-stepping one system call costs about 40 us; in a table of them, run by a few bytes of code in the shadow itself,
each costs 0.1 us. A table is an array of rows of ten 64-bit words:

    word   0        1..6         7                          8         9
           number   arguments    address of a second copy   result    1 = a failure ends the batch

The second copy of a result lands in an argument of a later row: so a row can use what an earlier one returned. Byte
strings and `Blob`s are placed behind the table and their addresses are filled in. Numbers -2 and -3 are no system
calls: they load a 32-bit or 64-bit value from memory (what pipe2(2) or timer_create(2) wrote, say). -1 ends the table.
"""

from __future__ import annotations

import errno as errno_names
import os
from array import array
from collections.abc import Mapping
from typing import Final, Protocol, Self

import numpy as np

from agent.errors import RestoreError
from agent.kernel.libc import NR

ROW_WORDS: Final = 10
ROW_BYTES: Final = ROW_WORDS * 8
_DST, _RESULT, _STRICT = 7, 8, 9
_ALIGN: Final = 16
_END, _LOAD32, _LOAD64 = -1, -2, -3
_WRAP: Final = 1 << 64
_SIGNED: Final = 1 << 63
_ERRORS: Final = 4095

# rbx points at the row; nothing but registers and the table is used, no stack.
RUNNER_CODE: Final = bytes.fromhex(
    "48 8b 03"  # next:    mov rax, [rbx]
    "48 83 f8 ff"  #          cmp rax, -1
    "74 55"  #          je stop
    "48 8b 7b 08"  #          mov rdi, [rbx+8]
    "48 83 f8 fe"  #          cmp rax, -2
    "74 41"  #          je load32
    "48 83 f8 fd"  #          cmp rax, -3
    "74 40"  #          je load64
    "48 8b 73 10"  #          mov rsi, [rbx+16]
    "48 8b 53 18"  #          mov rdx, [rbx+24]
    "4c 8b 53 20"  #          mov r10, [rbx+32]
    "4c 8b 43 28"  #          mov r8, [rbx+40]
    "4c 8b 4b 30"  #          mov r9, [rbx+48]
    "0f 05"  #          syscall
    "48 89 43 40"  # store:   mov [rbx+64], rax
    "48 8b 4b 38"  #          mov rcx, [rbx+56]
    "48 85 c9"  #          test rcx, rcx
    "74 03"  #          jz check
    "48 89 01"  #          mov [rcx], rax
    "48 3d 00 f0 ff ff"  # check:   cmp rax, -4096
    "76 07"  #          jbe advance            (unsigned: no error number)
    "48 83 7b 48 00"  #          cmp qword [rbx+72], 0
    "75 10"  #          jne stop
    "48 83 c3 50"  # advance: add rbx, 80
    "eb ac"  #          jmp next
    "48 63 07"  # load32:  movsxd rax, dword [rdi]
    "eb d6"  #          jmp store
    "48 8b 07"  # load64:  mov rax, [rdi]
    "eb d1"  #          jmp store
    "cc"  # stop:    int3
)
RUNNER_SYSCALL_OFFSET: Final = 0x2D
"""Where the runner's own `syscall` instruction stands."""


class Runner(Protocol):
    """Where a batch runs: a stopped process with a trampoline."""

    leader: int

    def room(self, size_bytes: int) -> int:
        """The address of at least `size_bytes` of writable memory in the trampoline, the same until it must grow."""

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write into the process's memory."""

    def read(self, address: int, size_bytes: int) -> bytes:
        """Read the process's memory."""

    def execute(self, starts: Mapping[int, int]) -> None:
        """Run, in each thread (host tid), the table at the address given for it; return when all have ended theirs."""


class Blob:
    """Memory that a row's argument points at.

    data: the content, or a size in bytes for zeros. read_back: `content` holds what stands there after the run.
    `point` lets 8 bytes of it hold the address of another blob, or of a place in one (also in itself).
    """

    __slots__ = ("content", "pointers", "read_back", "size_bytes")

    def __init__(self, data: bytes | bytearray | memoryview | int, *, read_back: bool = False) -> None:
        self.content = bytes(data)
        self.size_bytes = len(self.content)
        self.read_back = read_back
        self.pointers: list[tuple[int, Blob, int]] = []

    def point(self, offset: int, target: Blob | Spot) -> Self:
        """Let the 8 bytes at `offset` be the address of `target`."""
        spot = target if isinstance(target, Spot) else Spot(target, 0)
        self.pointers.append((offset, spot.blob, spot.offset))
        return self

    def at(self, offset: int) -> Spot:
        """The place `offset` bytes into this blob, as an argument or a pointer's target."""
        return Spot(self, offset)


class Spot:
    """A place within a blob."""

    __slots__ = ("blob", "offset")

    def __init__(self, blob: Blob, offset: int) -> None:
        self.blob = blob
        self.offset = offset


class Row:
    """One system call of a batch. As an argument of a later row it stands for its result."""

    __slots__ = ("batch", "index")

    def __init__(self, batch: Batch, index: int) -> None:
        self.batch = batch
        self.index = index

    @property
    def result(self) -> int:
        """What the call returned; -errno if it failed and was allowed to. Raises RestoreError before the run."""
        results = self.batch.results
        if self.index >= len(results):
            raise RestoreError(f"the result of {self.batch.names[self.index]} was asked for before the batch has run")
        return results[self.index]


Argument = int | bytes | bytearray | memoryview | Blob | Spot | Row


class Batch:
    """A table of system calls in the making; see the module's text.

    A batch runs once. One without runner is a prepared piece: build it ahead, `extend` the batch that runs with it.
    """

    def __init__(self, runner: Runner | None = None) -> None:
        self.runner = runner
        self.names: list[str] = []
        self.results: list[int] = []
        self._words: list[int] = []
        self._expected: list[tuple[int, int]] = []
        self._table_words: list[int] = []  # indices of words that are relative to the table's start
        self._blob_words: list[int] = []  # indices of words that are relative to the blob area's start
        self._blob = bytearray()
        self._blob_pointers: list[int] = []  # offsets in the blob area of pointers into the blob area
        self._places: dict[int, tuple[Blob, int]] = {}  # by id(): the blob (kept alive) and its offset
        self._parts: list[tuple[Batch, int]] = []
        self._ran = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def spent(self) -> bool:
        """Whether it has run; a failed run counts."""
        return self._ran

    def add(
        self,
        number: int,
        *arguments: Argument,
        name: str = "",
        expect: int | None = None,
        may_fail: bool = False,
    ) -> Row:
        """Append one system call.

        arguments: up to six; a byte string or blob is placed in memory and its address given; a `Row` is replaced by
        its result; numbers must be Python's own.
        name: for the error message.
        expect: the only result that is right (a descriptor's number, an address).
        may_fail: a failure neither ends the batch nor raises.
        """
        if self._ran:
            raise RestoreError("a batch that has run takes no more rows")
        if any(isinstance(argument, Row) for argument in arguments):
            arguments = self._resolve(arguments)
        words = [int(number)]
        start = len(self._words)
        for position, argument in enumerate(arguments, 1):
            if isinstance(argument, int):
                words.append(argument if -_SIGNED <= argument < _SIGNED else argument - _WRAP)
            elif isinstance(argument, Row):
                destination = self._index_of(argument) * ROW_WORDS + _DST
                self._words[destination] = start * 8 + position * 8
                self._table_words.append(destination)
                words.append(0)
            else:
                words.append(self._place(argument))
                self._blob_words.append(start + position)
        words.extend((0,) * (_STRICT - len(words)))
        words.append(0 if may_fail else 1)
        row = Row(self, len(self.names))
        self._words.extend(words)
        self.names.append(name or NR.name(number))
        if expect is not None:
            self._expected.append((row.index, expect))
        return row

    def load32(self, place: Blob | Spot | int, *, name: str = "load", expect: int | None = None) -> Row:
        """A row whose result is the signed 32-bit value that stands at `place` (address or blob) at that time."""
        return self.add(_LOAD32, place, name=name, expect=expect, may_fail=True)

    def load64(self, place: Blob | Spot | int, *, name: str = "load") -> Row:
        """A row whose result is the 64-bit value in memory at `place` at that time."""
        return self.add(_LOAD64, place, name=name, may_fail=True)

    def extend(self, part: Batch) -> None:
        """Append all rows of a prepared piece, which can run once; its rows get their results."""
        base_row, base_word = len(self.names), len(self._words)
        shift = len(self._blob)
        words = part._words
        if (shift and part._blob_words) or (base_row and part._table_words):
            words = words.copy()
            for index in part._blob_words:
                words[index] += shift
            for index in part._table_words:
                words[index] += base_row * ROW_BYTES
        self._words.extend(words)
        self.names.extend(part.names)
        self._expected.extend((row + base_row, value) for row, value in part._expected)
        self._table_words.extend(index + base_word for index in part._table_words)
        self._blob_words.extend(index + base_word for index in part._blob_words)
        self._blob += part._blob
        for offset in part._blob_pointers:
            self._shift_pointer(offset + shift, shift)
            self._blob_pointers.append(offset + shift)
        self._places.update({key: (blob, offset + shift) for key, (blob, offset) in part._places.items()})
        self._parts.append((part, base_row))
        self._parts.extend((inner, base_row + row) for inner, row in part._parts)

    def run(self, tid: int | None = None) -> list[int]:
        """Run all rows in thread `tid` (host tid; the leader by default) and give their results.

        Raises RestoreError naming the row and the error if a row failed or gave another result than expected.
        """
        if self.runner is None:
            raise RestoreError("a prepared piece of a batch has no process to run in")
        run_together(self.runner, {self.runner.leader if tid is None else tid: self})
        return self.results

    def compile(self, address: int) -> bytes:
        """The table and its blobs as they must stand at `address`."""
        table_bytes = (len(self.names) + 1) * ROW_BYTES
        words = np.array(array("q", self._words), dtype=np.int64)
        if self._table_words:
            words[self._table_words] += address
        blob_address = _aligned(address + table_bytes)
        if self._blob_words:
            words[self._blob_words] += blob_address
        for offset in self._blob_pointers:
            self._shift_pointer(offset, blob_address)
        end = np.full(ROW_WORDS, _END, dtype=np.int64).tobytes()
        gap = bytes(blob_address - address - table_bytes)
        compiled = b"".join((words.tobytes(), end, gap, self._blob))
        for offset in self._blob_pointers:
            self._shift_pointer(offset, -blob_address)
        return compiled

    def size_bytes(self) -> int:
        """An upper bound of what `compile` gives."""
        return (len(self.names) + 1) * ROW_BYTES + len(self._blob) + 2 * _ALIGN

    def mark_spent(self) -> None:
        """No row can be added to this batch or to its parts any more."""
        self._ran = True
        for part, _ in self._parts:
            part._ran = True

    def conclude(self, compiled: memoryview) -> None:
        """Take results and blobs from the memory after the run, and check them."""
        count = len(self.names)
        table = np.frombuffer(compiled, dtype=np.int64, count=count * ROW_WORDS).reshape(count, ROW_WORDS)
        self.results = table[:, _RESULT].tolist()
        for part, base_row in self._parts:
            part.results = self.results[base_row : base_row + len(part.names)]
        blob_start = len(compiled) - len(self._blob)
        for blob, offset in self._places.values():
            if blob.read_back:
                start = blob_start + offset
                blob.content = bytes(compiled[start : start + blob.size_bytes])
        wrong = np.flatnonzero((table[:, _RESULT] < 0) & (table[:, _RESULT] >= -_ERRORS) & (table[:, _STRICT] != 0))
        if len(wrong):
            self._fail(int(wrong[0]))
        for row, value in self._expected:
            if self.results[row] != value:
                raise RestoreError(f"{self.names[row]} in the shadow gave {self.results[row]}, not {value}")

    # ------------------------------------------------------------------ inside

    def _fail(self, row: int) -> None:
        number = -self.results[row]
        code = errno_names.errorcode.get(number, str(number))
        raise RestoreError(
            f"{self.names[row]} in the shadow: {os.strerror(number)} ({code}), row {row + 1} of {len(self)}"
        )

    def _resolve(self, arguments: tuple[Argument, ...]) -> tuple[Argument, ...]:
        """Results that are known become numbers; a row has one second copy of its result, so a second use is loaded."""
        resolved: list[Argument] = []
        used: set[int] = set()
        for argument in arguments:
            if not isinstance(argument, Row):
                resolved.append(argument)
            elif argument.batch.spent:
                resolved.append(argument.result)
            else:
                source = self._index_of(argument)
                if self._words[source * ROW_WORDS + _DST] or source in used:
                    self._table_words.append(len(self._words) + 1)
                    argument = self.add(_LOAD64, source * ROW_BYTES + _RESULT * 8, name="load", may_fail=True)
                used.add(source)
                resolved.append(argument)
        return tuple(resolved)

    def _index_of(self, row: Row) -> int:
        if row.batch is self:
            return row.index
        for part, base_row in self._parts:
            if part is row.batch:
                return base_row + row.index
        raise RestoreError(f"{row.batch.names[row.index]} is no earlier row of this batch")

    def _place(self, data: bytes | bytearray | memoryview | Blob | Spot) -> int:
        """Put data into the blob area (once per Blob) and give its offset there."""
        if isinstance(data, Spot):
            return self._place(data.blob) + data.offset
        if not isinstance(data, Blob):
            return self._append_blob(data)
        known = self._places.get(id(data))
        if known is not None:
            return known[1]
        offset = self._append_blob(data.content)
        self._places[id(data)] = (data, offset)
        for where, target, inside in data.pointers:
            value = self._place(target) + inside
            self._blob[offset + where : offset + where + 8] = value.to_bytes(8, "little")
            self._blob_pointers.append(offset + where)
        return offset

    def _append_blob(self, data: bytes | bytearray | memoryview) -> int:
        offset = len(self._blob)
        self._blob += data
        self._blob += bytes(-len(data) % _ALIGN)
        return offset

    def _shift_pointer(self, offset: int, shift: int) -> None:
        value = int.from_bytes(self._blob[offset : offset + 8], "little") + shift
        self._blob[offset : offset + 8] = value.to_bytes(8, "little")


def run_together(runner: Runner, batches: Mapping[int, Batch]) -> None:
    """Run one batch per thread (host tid), all at the same time. Raises RestoreError as `Batch.run` does."""
    busy = {tid: batch for tid, batch in batches.items() if len(batch)}
    if not busy:
        return
    address = runner.room(sum(_aligned(batch.size_bytes()) for batch in busy.values()))
    starts: dict[int, int] = {}
    pieces: list[bytes] = []
    spans: list[tuple[Batch, int, int]] = []
    offset = 0
    for tid, batch in busy.items():
        compiled = batch.compile(address + offset)
        starts[tid] = address + offset
        spans.append((batch, offset, offset + len(compiled)))
        pieces.append(compiled + bytes(-len(compiled) % _ALIGN))
        offset += len(pieces[-1])
    for batch in busy.values():
        batch.mark_spent()
    runner.write(address, b"".join(pieces))
    runner.execute(starts)
    after = memoryview(runner.read(address, offset))
    for batch, start, end in spans:
        batch.conclude(after[start:end])


def _aligned(value: int) -> int:
    return value + -value % _ALIGN
