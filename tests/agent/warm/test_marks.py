"""When a mark can be made, how old it says that its content is, and which are remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.warm.feed_events import Source
from agent.warm.marks import MARKS_MAX, Marks
from transport.checkpoint import NOTHING, Version
from transport.structure_messages import Held, Mark

HOLDS: Final = {"book": (1, b"12345678")}
BOTH: Final[frozenset[Source]] = frozenset({"program", "native"})


def made(marks: Marks, holds: Mapping[str, Held] = HOLDS, *, final: bool = False) -> Mark:
    return marks.make(holds, BOTH, 0, final=final)


def test_a_mark_is_as_old_as_the_source_that_was_silent_for_the_longest() -> None:
    marks = Marks(1, 0)
    marks.nothing_newer("program", 9)
    assert made(marks).captured_ns == 0
    marks.nothing_newer("native", 5)
    assert made(marks).captured_ns == 5
    marks.nothing_newer("native", 3)
    assert made(marks).captured_ns == 5


def test_who_goes_on_must_say_since_when_before_a_mark_can_be_dated() -> None:
    marks = Marks(1, 0)
    marks.goes_on("program")
    could = [marks.can_be_made]
    marks.nothing_newer("program", 5)
    could.append(marks.can_be_made)
    marks.goes_on("program")
    could.append(marks.can_be_made)
    assert could == [False, True, True]


def test_equal_contents_have_equal_digests_and_others_have_not() -> None:
    first, again = made(Marks(1, 0)).version, made(Marks(2, 7)).version
    assert first.digest == again.digest
    assert made(Marks(1, 0), {"book": (2, b"12345678")}).version.digest != first.digest
    assert made(Marks(1, 0), {"book": (1, b"87654321")}).version.digest != first.digest
    assert made(Marks(1, 0), {"nook": (1, b"12345678")}).version.digest != first.digest


def test_behind_the_last_comes_none_unless_the_program_goes_on() -> None:
    marks = Marks(1, 0)
    made(marks)
    assert (marks.last, marks.can_be_made) == (None, True)
    final = made(marks, final=True)
    assert (marks.last, marks.can_be_made) == (final, False)
    marks.reopen()
    assert (marks.last, marks.can_be_made) == (None, True)


def test_no_number_comes_again_after_one_that_a_mirror_holds_of_the_same_token() -> None:
    marks = Marks(3, 4)
    marks.follow(Version(2, 99, 1))
    assert made(marks).version.number == 5
    marks.follow(Version(3, 40, 1))
    marks.follow(Version(3, 30, 1))
    assert made(marks).version.number == 41


def test_the_newest_are_found_by_version_and_by_number() -> None:
    marks = Marks(1, 0)
    assert marks.version == NOTHING
    assert marks.up_to(1) is None
    every = [made(marks) for _ in range(MARKS_MAX + 2)]
    assert marks.made == len(every)
    assert marks.version == every[-1].version
    assert marks.dated(every[0].version) is None
    found = marks.dated(every[2].version)
    assert found is not None
    assert found.mark is every[2]
    assert marks.up_to(every[7].version.number) is every[7]
    assert marks.up_to(10**9) is every[-1]
    assert marks.up_to(every[1].version.number) is None
