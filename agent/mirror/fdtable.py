"""Which descriptor numbers are in use in a shadow.

The kernel gives the lowest free number (open(2)); so a shadow's next number is known before the call is made, and a
batch can open, move and close descriptors without asking. Numbers from `floor` on are above all of the program's: there
the shadow keeps what is its own (a channel, parked descriptors), and moves things to when a program's number is in the
way.
"""

from __future__ import annotations

from typing import Final

from agent.errors import RestoreError
from agent.kernel.libc import NR
from agent.mirror.batch import Batch, Row

FD_CLOEXEC: Final = 1
F_SETFD: Final = 2
O_CLOEXEC: Final = 0o2000000


class DescriptorTable:
    """The numbers in use in one shadow, as they will be once all rows added so far have run.

    floor: the first number that is no program's. used: all numbers in use; spares: those of them that are the shadow's
    own.
    """

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.used: set[int] = set()
        self.spares: set[int] = set()
        self._hint = 0
        self._spare_hint = floor

    def copy(self) -> DescriptorTable:
        """A table with the same numbers in use, for a rehearsal."""
        twin = DescriptorTable(self.floor)
        twin.used, twin.spares = set(self.used), set(self.spares)
        return twin

    def lowest(self) -> int:
        """The number that the kernel gives next."""
        number = self._hint
        while number in self.used:
            number += 1
        self._hint = number
        return number

    def spare(self) -> int:
        """Take a free number above all of the program's (for dup3(2); the kernel never gives it by itself)."""
        number = self._spare_hint
        while number in self.used:
            number += 1
        self._spare_hint = number
        self.used.add(number)
        self.spares.add(number)
        return number

    def move_floor(self, batch: Batch, floor: int) -> dict[int, int]:
        """Let the spare numbers begin at `floor`; those in use below it move up. Gives old number -> new one."""
        self.floor = self._spare_hint = floor
        moved: dict[int, int] = {}
        for number in sorted(number for number in self.spares if number < floor):
            moved[number] = self.park(batch, number)
        return moved

    def take(self, number: int) -> None:
        """`number` is in use from now on. Raises RestoreError if it already was."""
        if number in self.used:
            raise RestoreError(f"descriptor {number} of the shadow is taken twice")
        self.used.add(number)

    def release(self, number: int) -> None:
        """`number` is free from now on. Raises RestoreError if it was not in use."""
        if number not in self.used:
            raise RestoreError(f"descriptor {number} of the shadow is released but not in use")
        self.used.discard(number)
        self.spares.discard(number)
        if number < self._hint:
            self._hint = number
        if self.floor <= number < self._spare_hint:
            self._spare_hint = number

    # ---------------------------------------------------------------- rows

    def place(self, batch: Batch, opened: Row, number: int, *, close_on_exec: bool) -> None:
        """Move the descriptor that `opened` has just made to `number`.

        Add this directly after the row that opens; that row must have been made WITHOUT an own move, its result is the
        lowest free number. close_on_exec: the flag that the descriptor has in the end, whatever the opening row said.
        """
        made = self.lowest()
        if made == number:
            self.take(number)
            batch.add(
                NR.FCNTL, opened, F_SETFD, FD_CLOEXEC if close_on_exec else 0, name=f"flags of descriptor {number}"
            )
            return
        self.take(number)
        self.duplicate(batch, opened, number, close_on_exec=close_on_exec)
        batch.add(NR.CLOSE, opened, name=f"close of what became descriptor {number}")

    def duplicate(self, batch: Batch, source: Row | int, number: int, *, close_on_exec: bool) -> Row:
        """Let `number` be a duplicate of `source` (dup3(2)); take `number` yourself, before or after."""
        flags = O_CLOEXEC if close_on_exec else 0
        return batch.add(NR.DUP3, source, number, flags, name=f"dup3 to descriptor {number}", expect=number)

    def park(self, batch: Batch, source: Row | int) -> int:
        """Move an open descriptor to a spare number and close the old one; gives the spare number.

        A `source` given by number must be in use and is released; a row's result is not in use yet.
        """
        number = self.spare()
        self.duplicate(batch, source, number, close_on_exec=False)
        batch.add(NR.CLOSE, source, name=f"close of what was parked at {number}")
        if isinstance(source, int):
            self.release(source)
        return number

    def close(self, batch: Batch, number: int) -> None:
        """Close `number`, which is in use."""
        self.release(number)
        batch.add(NR.CLOSE, number, name=f"close of descriptor {number}")
