"""I10, I12 and I13: what must be so when all is quiet again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from tests.chaos.checkers.verdict import Violation
from tests.chaos.evidence import NS_PER_S, Census, Evidence, Operation

WHOLE_S_MAX = 90.0
"""From the end of a fault until everything is served and mirrored. Generous: machines that run this are slow."""
SILENT_S_MAX = 10.0
"""Without any answer to any client, when one thing at a time is done. A takeover takes less than a second; a slow
machine, and a client that waits two seconds for an answer before it looks elsewhere, are allowed for."""
ANSWERED_S_MAX = 15.0
"""From the time at which everything is whole until each client is answered: what it believed of the network must go."""
ORDERS = ("switched-over", "upgraded")
"""What is no harm at all, but done by a cluster that is asked for it."""
GROWTH_MAX = 12
"""So many more descriptors than at first may be open on a node for one role: connections of clients and of peers."""

MEMORY_MIB_MAX = {"agent": 96, "": 64}
"""So much more memory than at first may be resident for one role: an agent keeps images of the program, which is small
in these runs, and grows by a few MiB."""


def registries_are_equal(evidence: Evidence) -> Iterator[Violation]:
    """Every node tells the same history, as far back as both remember; none tells nothing, or once this, once that."""
    told: dict[str, dict[int, tuple[str, str, str, str]]] = {}
    for one in evidence.history:
        event = (one.kind, one.program, one.node, one.text)
        before = told.setdefault(one.teller, {}).setdefault(one.index, event)
        if before != event:
            yield Violation("I10", f"node {one.teller} told of event {one.index} as {before}, and later as {event}")
    if not told:
        return  # Nobody was asked, and the run is invalid.
    nodes = {one.node for one in evidence.census} | {one.node for one in evidence.standings}
    for node in sorted(nodes - told.keys()):
        yield Violation("I10", f"node {node} remembers nothing of what was agreed")
    first, *others = sorted(told)
    for other in others:
        since = max(min(told[first], default=0), min(told[other], default=0))
        for index in sorted(told[first].keys() | told[other].keys()):
            mine, theirs = told[first].get(index), told[other].get(index)
            if index >= since and mine != theirs:
                yield Violation("I10", f"event {index} is {mine} for node {first} and {theirs} for node {other}")
                break


def all_is_whole_again(evidence: Evidence) -> Iterator[Violation]:
    """After each fault is over, the program is served and mirrored everywhere within WHOLE_S_MAX."""
    for one in evidence.struck:
        if one.whole_ns is None:
            yield Violation("I12", f"after fault {one.number} ({one.kind}) it is never whole again: {one.unhealed}")
        elif (took_s := (one.whole_ns - one.healed_ns) / NS_PER_S) > WHOLE_S_MAX:
            yield Violation("I12", f"after fault {one.number} ({one.kind}) it takes {took_s:.1f} s to be whole again")


def silences_s(evidence: Evidence) -> dict[int, float]:
    """By the number of a step: the longest time in which no client at all was answered, from its beginning until all
    was whole again."""
    answered_ns = sorted(one.ended_ns for one in evidence.operations if one.ok)
    found: dict[int, float] = {}
    for fault in evidence.struck:
        until_ns = fault.whole_ns or fault.healed_ns
        first, last = bisect_left(answered_ns, fault.begun_ns), bisect_right(answered_ns, until_ns)
        points = [fault.begun_ns, *answered_ns[first:last], until_ns]
        longest_s = max(after - before for before, after in pairwise(points)) / NS_PER_S
        found[fault.number] = max(longest_s, found.get(fault.number, 0.0))
    return found


def somebody_is_answered(evidence: Evidence) -> Iterator[Violation]:
    """Whatever one fault does: within SILENT_S_MAX somebody serves, and is found by some client."""
    silent_s = silences_s(evidence) if evidence.operations else {}
    for fault in evidence.struck if evidence.operations else ():
        if fault.loses != "everything" and (took_s := silent_s[fault.number]) > SILENT_S_MAX:
            what = f"nobody was answered for {took_s:.1f} s after fault {fault.number} ({fault.kind})"
            yield Violation("I12", what)


def orders_are_carried_out(evidence: Evidence) -> Iterator[Violation]:
    """What an operator orders when all is whole, and nothing else is done, is done."""
    for fault in evidence.struck:
        is_alone = sum(one.number == fault.number for one in evidence.struck) == 1
        if fault.kind in ORDERS and is_alone and not fault.effect:
            why = fault.unhealed or "it had no effect"
            yield Violation(
                "I12", f"fault {fault.number} ({fault.kind}) was ordered when all was whole, and failed: {why}"
            )


def all_are_answered_again(evidence: Evidence) -> Iterator[Violation]:
    """After each fault is over, every client that still asks is answered within ANSWERED_S_MAX."""
    asked: dict[str, list[Operation]] = {}
    for one in evidence.operations:
        asked.setdefault(one.asker, []).append(one)
    for client, own in sorted(asked.items()):
        answered_ns = sorted(one.ended_ns for one in own if one.ok)
        last_ns = max(one.ended_ns for one in own)
        for fault in evidence.struck:
            after_ns = fault.whole_ns or fault.healed_ns
            place = bisect_right(answered_ns, after_ns)
            waited_ns = (answered_ns[place] if place < len(answered_ns) else last_ns) - after_ns
            if waited_ns > ANSWERED_S_MAX * NS_PER_S:
                took_s = waited_ns / NS_PER_S
                what = f"client {client} has no answer for {took_s:.1f} s though all is whole again"
                yield Violation("I12", f"after fault {fault.number} ({fault.kind}) {what}")


def nothing_leaks(evidence: Evidence) -> Iterator[Violation]:
    """Of each role there are as many processes on a node as at first, and no more descriptors and memory than a few.

    What the program has open is the program's: clients that were cut off stay with it for as long as it likes. Its
    agent has a descriptor for each of them.
    """
    of_program = {(one.node, one.at_ns): one.descriptors for one in evidence.census if one.role == "program"}
    counts: dict[tuple[str, str], list[Census]] = {}
    for one in evidence.census:
        if one.role != "program":
            owed = of_program.get((one.node, one.at_ns), 0) if one.role == "agent" else 0
            counts.setdefault((one.node, one.role), []).append(replace(one, descriptors=one.descriptors - owed))
    for (node, role), found in sorted(counts.items()):
        first, last = found[0], found[-1]
        if last.processes > first.processes:
            yield Violation("I13", f"node {node} has {last.processes} processes {role}, and had {first.processes}")
        # What a primary has more than a mirror, any node may have.
        most = max(counted[0].descriptors for key, counted in counts.items() if key[1] == role)
        if last.descriptors > most + GROWTH_MAX:
            yield Violation("I13", f"processes {role} of node {node} have {last.descriptors} descriptors, once {most}")
        grown_mib = (
            last.resident_kib - max(counted[0].resident_kib for key, counted in counts.items() if key[1] == role)
        ) / 1024
        if grown_mib > MEMORY_MIB_MAX.get(role, MEMORY_MIB_MAX[""]):
            yield Violation(
                "I13", f"processes {role} of node {node} have {grown_mib:.0f} MiB more memory than at first"
            )
