"""I4, I5 and the reads: what was acknowledged is there, nothing is there that nobody wrote, nothing comes back.

Each client appends 1, 2, 3, ... to a list of its own. An acknowledgement says how long the list was, so each says where
its number stands; what is shorter later has lost something, and shows when. What was done to the program by one fault
is not put down to another: a write that was still seen when all was whole again was not lost before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import NS_PER_MS, Content, Evidence, Operation, Struck


def nothing_is_lost(evidence: Evidence) -> Iterator[Violation]:
    """An acknowledged write that is gone was taken by a fault that may do so, and was newer than what the cluster had
    said before of its staleness."""
    for content in evidence.contents:
        there = set(content.numbers)
        operations = _of(content.client, evidence.operations)
        for place, write in enumerate(operations):
            if write.kind == "append" and write.ok and write.number not in there:
                yield from _judge(write, operations[place + 1 :], evidence)


def _of(client: str, operations: Sequence[Operation]) -> list[Operation]:
    return sorted((one for one in operations if one.client == client and one.ok), key=lambda one: one.ended_ns)


def _judge(write: Operation, later: Sequence[Operation], evidence: Evidence) -> Iterator[Violation]:
    place = next((place for place, one in enumerate(later) if _contradicts(one, write)), None)
    noticed_ns = None if place is None else later[place].ended_ns
    seen_ns = max((one.begun_ns for one in later[:place] if _confirms(one, write)), default=write.begun_ns)
    faults = _faults_between(seen_ns, noticed_ns, evidence.struck)
    name = f"write {write.number} of client {write.client}, which was acknowledged,"
    if not faults:
        yield Violation("I5", f"{name} is gone without any fault")
    elif all(fault.loses != "everything" for fault in faults):
        safe_ns = {fault: covered_ns(fault, evidence) for fault in faults if fault.loses == "staleness"}
        fault = faults[-1]
        if not safe_ns:
            yield Violation("I5", f"{name} is gone since fault {fault.number} ({fault.kind}), which costs nothing")
        elif write.ended_ns <= min(safe_ns.values()):
            fault, since_ns = max(safe_ns.items(), key=lambda one: one[0].number)
            older_ms = (since_ns - write.ended_ns) / NS_PER_MS
            what = f"{older_ms:.1f} ms older than the staleness that was reported before"
            yield Violation("I5", f"{name} is gone since fault {fault.number} ({fault.kind}), though it was {what}")


def _contradicts(one: Operation, write: Operation) -> bool:
    """Whether a later answer shows that the write is not there any more."""
    if one.begun_ns < write.ended_ns:
        return False
    return one.length < write.length + (one.kind == "append")


def _confirms(one: Operation, write: Operation) -> bool:
    """Whether a later append shows that the write is there still: it has its place behind all that its client has
    tried meanwhile. A list that had lost something would be shorter, whatever was done without an answer."""
    if one.kind != "append" or one.begun_ns < write.ended_ns:
        return False
    return one.length - write.length >= one.number - write.number


def _faults_between(seen_ns: int, noticed_ns: int | None, struck: Sequence[Struck]) -> list[Struck]:
    """Those that can have taken what was there at first, and then was not: each that had begun when that was noticed,
    and after which not all had been whole again when it was seen last."""
    return [
        one
        for one in struck
        if (noticed_ns is None or one.begun_ns <= noticed_ns) and (one.whole_ns is None or one.whole_ns >= seen_ns)
    ]


def covered_ns(fault: Struck, evidence: Evidence) -> int:
    """Until when everything was safe on a mirror, as the cluster had said before the fault."""
    before = (one for one in evidence.reports if one.asked_ns <= fault.begun_ns and one.lag_ms is not None)
    return max((one.asked_ns - int((one.lag_ms or 0.0) * NS_PER_MS) for one in before), default=0)


def nothing_is_invented(evidence: Evidence) -> Iterator[Violation]:
    """Every number was written by its client, is there once, and what was acknowledged stands in its order; nobody was
    told of more than had been written."""
    for content in evidence.contents:
        own = [one for one in evidence.operations if one.client == content.client]
        appends = [one for one in own if one.kind == "append"]
        written = {one.number for one in appends}
        for number in content.numbers:
            if number not in written:
                yield Violation("I8", f"client {content.client} never wrote {number}, which is there")
        seen: set[int] = set()
        for number in content.numbers:
            if number in seen:
                yield Violation("I8", f"write {number} of client {content.client} is there more than once")
            seen.add(number)
        yield from _out_of_order(content, {one.number for one in appends if one.ok})
        begun_ns = sorted(one.begun_ns for one in appends)
        for one in own:
            if one.ok and one.length > (most := bisect_right(begun_ns, one.ended_ns)):
                what = f"{one.length} entries when {most} had been written"
                yield Violation("I8", f"client {one.asker} was told that the list of {one.client} had {what}")


def _out_of_order(content: Content, acknowledged: set[int]) -> Iterator[Violation]:
    """An unanswered write may come late; one that was answered was done before the next one was sent."""
    for first, second in pairwise(number for number in content.numbers if number in acknowledged):
        if second < first:
            yield Violation("I8", f"write {second} of client {content.client} stands after write {first}")


def nothing_comes_back(evidence: Evidence) -> Iterator[Violation]:
    """Nobody was told that a write is not there which is there in the end: that was an answer of somebody else's."""
    for content in evidence.contents:
        places = {number: place for place, number in enumerate(content.numbers, start=1)}
        operations = _of(content.client, evidence.operations)
        kept = [one for one in operations if one.kind == "append" and one.number in places]
        ends = [one.ended_ns for one in kept]
        for one in kept:
            if places[one.number] != one.length:
                what = f"write {one.number} of client {content.client} was acknowledged as entry {one.length}"
                yield Violation("I1", f"{what} and is entry {places[one.number]}")
        for one in operations:
            before = bisect_right(ends, one.begun_ns) - 1
            if before >= 0 and _contradicts(one, kept[before]):
                what = f"was answered as if write {kept[before].number} were not there, which is"
                yield Violation("I1", f"a question ({one.kind}) of client {content.client} {what}")
