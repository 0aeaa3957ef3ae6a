"""Which fault a lost write is put down to, and when it is put down to none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.checkers.writes import nothing_is_invented, nothing_is_lost
from tests.chaos.evidence import NS_PER_MS, Content, Evidence, Loses, Operation, Report, Struck

REPORTED_MS = 10


def fault(number: int, begun_ms: int, whole_ms: int | None, loses: Loses = "staleness") -> Struck:
    """One that is over as soon as it has begun."""
    begun_ns = begun_ms * NS_PER_MS
    whole_ns = None if whole_ms is None else whole_ms * NS_PER_MS
    return Struck(number, "isolated", "primary", "a", loses, *(begun_ns,) * 4, whole_ns, "lost packets")


def append(number: int, at_ms: int, length: int, *, ok: bool = True) -> Operation:
    """It takes a millisecond."""
    at_ns = at_ms * NS_PER_MS
    return Operation("one", "append", number, length if ok else 0, at_ns, at_ns + NS_PER_MS, ok, "one")


def judged(operations: list[Operation], there: tuple[int, ...], *struck: Struck) -> list[str]:
    """What is said of lost writes; the staleness was reported every 5 ms."""
    reports = [
        Report("redis", at_ms * NS_PER_MS, at_ms * NS_PER_MS + 1, 1, "a", REPORTED_MS) for at_ms in range(0, 1000, 5)
    ]
    return [
        one.what
        for one in nothing_is_lost(
            Evidence(operations=operations, contents=[Content("one", there)], reports=reports, struck=list(struck))
        )
    ]


WRITES = [append(number, 100 * number, number) for number in range(1, 5)]
"""At 100, 200, 300 and 400 ms."""


def test_what_is_newer_than_reported_may_go_with_a_fault() -> None:
    assert judged([*WRITES, append(5, 500, 4)], (1, 2, 3, 5), fault(1, 405, 450)) == []
    [what] = judged([*WRITES, append(5, 500, 3)], (1, 2, 5), fault(1, 405, 450))
    assert "write 3" in what
    assert "older than the staleness" in what


def test_what_was_written_when_all_was_whole_again_was_not_lost_before() -> None:
    [what] = judged([*WRITES, append(5, 500, 4)], (1, 2, 3, 5), fault(1, 150, 350, "everything"))
    assert "write 4" in what
    assert "without any fault" in what


def test_what_was_seen_when_all_was_whole_again_was_not_lost_before() -> None:
    earlier, later = fault(1, 150, 250, "everything"), fault(2, 350, 380, "nothing")
    [what] = judged(WRITES, (2, 3, 4), earlier, later)
    assert "write 1" in what
    assert "fault 2" not in what, "it was seen after that, too"
    [what] = judged([*WRITES[:3], append(4, 400, 3)], (2, 3, 4), earlier, later)
    assert "fault 2 (isolated), which costs nothing" in what


def test_a_loss_that_shows_late_may_be_of_any_fault_since() -> None:
    """Nobody asked between the two."""
    first, second = fault(1, 405, 450), fault(2, 480, 490, "nothing")
    assert judged([*WRITES, append(5, 500, 4)], (1, 2, 3, 5), first, second) == []
    assert judged([*WRITES, append(5, 500, 4)], (1, 2, 3, 5), second) != []


def test_a_list_that_has_grown_again_does_not_show_that_nothing_was_lost() -> None:
    """Write 4 is lost by the first fault; 5 and 6 are done, though nobody hears of it, and lost by the second."""
    unheard = [append(5, 410, 0, ok=False), append(6, 420, 0, ok=False), append(7, 460, 6)]
    first, second = fault(1, 405, 450), fault(2, 470, 480)
    assert judged([*WRITES, *unheard, append(8, 500, 4)], (1, 2, 3, 8), first, second) == []


@pytest.mark.parametrize(("loses", "count"), [("nothing", 1), ("staleness", 0), ("everything", 0)])
def test_what_a_fault_may_cost(loses: Loses, count: int) -> None:
    assert len(judged([*WRITES, append(5, 500, 4)], (1, 2, 3, 5), fault(1, 405, None, loses))) == count


def test_nobody_is_told_of_more_than_was_written() -> None:
    evidence = Evidence(operations=list(WRITES), contents=[Content("one", (1, 2, 3, 4))])
    read = Operation("one", "read", 0, 2, 250 * NS_PER_MS, 251 * NS_PER_MS, True, "two")
    evidence.operations.append(read)
    assert list(nothing_is_invented(evidence)) == []
    evidence.operations.append(replace(read, length=3))
    assert [one.invariant for one in nothing_is_invented(evidence)] == ["I8"]
