"""Violations, planted in the evidence of a good run: what each checker must find (pure).

A planter changes what was seen as if the product had broken its promise. The good run may be made up or real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from tests.chaos.checkers.growth import nothing_grows
from tests.chaos.checkers.recovery import (
    ANSWERED_S_MAX,
    GROWTH_MAX,
    MEMORY_MIB_MAX,
    SILENT_S_MAX,
    WHOLE_S_MAX,
    all_are_answered_again,
    all_is_whole_again,
    nothing_leaks,
    orders_are_carried_out,
    registries_are_equal,
    somebody_is_answered,
)
from tests.chaos.checkers.registry import registry_is_linearizable
from tests.chaos.checkers.remembered import what_is_acknowledged_is_remembered
from tests.chaos.checkers.serving import LATE_MS, LEASE_MS, none_serves_without_a_lease, one_serves_at_a_time
from tests.chaos.checkers.tokens import grants, terms_rise, tokens_rise
from tests.chaos.checkers.verdict import Checker
from tests.chaos.checkers.writes import nothing_comes_back, nothing_is_invented, nothing_is_lost
from tests.chaos.evidence import NS_PER_MS, NS_PER_S, Evidence, Operation, RegistryOperation, Serving, Struck


@dataclass(frozen=True, slots=True)
class Planted:
    """what: the mistake of the product. invariant: the one that it breaks."""

    what: str
    checker: Checker
    invariant: str
    plant: Callable[[Evidence], None]


def _two_take_turns(evidence: Evidence) -> None:
    last = evidence.servings[-1]
    other = next(one.node for one in evidence.census if one.node != last.node)
    for number in (1, 2):
        at_ns = last.last_ns + number
        evidence.servings.append(Serving(other if number == 1 else last.node, at_ns, at_ns, 1))


def _served_without_a_token(evidence: Evidence) -> None:
    evidence.servings.insert(0, replace(evidence.servings[0], node="stranger"))


def _answered_after_it_was_told(evidence: Evidence) -> None:
    """Under the first token, though it is the last that is known: nobody takes turns, the packet is merely too late."""
    granted = grants(evidence.history, evidence.program)
    first, last = granted[0], granted[-1]
    at_ns = evidence.reports[-1].told_ns + 1
    evidence.servings = [
        Serving(first.node, evidence.servings[0].first_ns, at_ns, 2),
        *(Serving(grant.node, at_ns + grant.token, at_ns + grant.token, 1) for grant in granted[1:]),
    ]
    evidence.reports = [one for one in evidence.reports if one.token in (first.token, last.token)]


def _serves_without_a_lease(evidence: Evidence) -> None:
    longest = max(evidence.servings, key=lambda one: one.last_ns - one.first_ns)
    begun_ns = (longest.first_ns, longest.first_ns + 1)
    over_ns = longest.first_ns + 2 * (LEASE_MS + LATE_MS) * NS_PER_MS
    over = replace(longest, last_ns=over_ns + 1)
    evidence.servings[evidence.servings.index(longest)] = over
    times_ns = (*begun_ns, over_ns, over_ns + 2, over_ns + 3)
    number = max(one.number for one in evidence.struck) + 1
    evidence.struck.append(Struck(number, "isolated", "primary", longest.node, "staleness", *times_ns, "lost packets"))


def _a_term_goes_back(evidence: Evidence) -> None:
    last = evidence.standings[-1]
    at_ns = max(one.told_ns for one in evidence.standings)
    evidence.standings.append(replace(last, asked_ns=at_ns + 1, told_ns=at_ns + 2, term=last.term + 1))
    evidence.standings.append(replace(last, asked_ns=at_ns + 3, told_ns=at_ns + 4))


def _two_lead_in_one_term(evidence: Evidence) -> None:
    event = next(one for one in evidence.history if one.kind == "leader-changed")
    evidence.history.append(replace(event, index=max(one.index for one in evidence.history) + 1, node="stranger"))


def _granted_twice(evidence: Evidence) -> None:
    last = grants(evidence.history, evidence.program)[-1]
    event = next(one for one in evidence.history if one.index == last.index)
    evidence.history.append(replace(event, index=max(one.index for one in evidence.history) + 1))


def _token_goes_back(evidence: Evidence) -> None:
    evidence.reports.append(replace(evidence.reports[-1], token=evidence.reports[-1].token - 1))


def _forget(evidence: Evidence, write: Operation) -> None:
    """The write is gone, and what came after it stands one place before, as was acknowledged."""
    place = next(place for place, one in enumerate(evidence.contents) if one.client == write.client)
    content = evidence.contents[place]
    evidence.contents[place] = replace(content, numbers=tuple(one for one in content.numbers if one != write.number))
    for number, one in enumerate(evidence.operations):
        if one.client == write.client and one.ok and one.length >= write.length and one.begun_ns >= write.ended_ns:
            evidence.operations[number] = replace(one, length=one.length - 1)


def _appends(evidence: Evidence) -> list[Operation]:
    found = [one for one in evidence.operations if one.kind == "append" and one.ok]
    return sorted(found, key=lambda one: one.ended_ns)


def _lost_without_a_fault(evidence: Evidence) -> None:
    evidence.struck.clear()
    _forget(evidence, _appends(evidence)[3])


def _lost_when_all_was_whole(evidence: Evidence) -> None:
    """Long after the last fault, which could have cost everything."""
    evidence.struck = [replace(one, loses="everything") for one in evidence.struck]
    whole_ns = max(one.whole_ns or 0 for one in evidence.struck)
    _forget(evidence, next(one for one in _appends(evidence) if one.begun_ns > whole_ns))


def _lost_though_it_was_seen_again(evidence: Evidence) -> None:
    """It was written before the fault, and still there when all was whole again; it is gone in the end."""
    evidence.struck = [replace(one, loses="everything") for one in evidence.struck]
    begun_ns = min(one.begun_ns for one in evidence.struck)
    write = next(one for one in _appends(evidence) if one.ended_ns < begun_ns)
    place = next(place for place, one in enumerate(evidence.contents) if one.client == write.client)
    numbers = tuple(one for one in evidence.contents[place].numbers if one != write.number)
    evidence.contents[place] = replace(evidence.contents[place], numbers=numbers)
    # Nothing else was lost, and nothing was without an answer.
    evidence.operations = [one for one in evidence.operations if one.ok and one.client == write.client]
    for at, one in enumerate(evidence.operations):
        if one.kind == "append":
            evidence.operations[at] = replace(one, length=one.number)


def _lost_though_nothing_may_be(evidence: Evidence) -> None:
    evidence.struck = [replace(one, loses="nothing") for one in evidence.struck]
    begun_ns = max(one.begun_ns for one in evidence.struck)
    _forget(evidence, [one for one in _appends(evidence) if one.ended_ns < begun_ns][-1])


def _lost_more_than_reported(evidence: Evidence) -> None:
    first = min(one.begun_ns for one in evidence.struck)
    evidence.struck = [replace(one, loses="staleness") for one in evidence.struck]
    report = next(one for one in evidence.reports if one.lag_ms is not None)
    evidence.reports.append(replace(report, asked_ns=first, lag_ms=0.0))
    _forget(evidence, [one for one in _appends(evidence) if one.ended_ns < first][-1])


def _never_written(evidence: Evidence) -> None:
    content = evidence.contents[0]
    evidence.contents[0] = replace(content, numbers=(*content.numbers, 1_000_000))


def _written_twice(evidence: Evidence) -> None:
    content = evidence.contents[0]
    evidence.contents[0] = replace(content, numbers=(*content.numbers, content.numbers[-1]))


def _out_of_order(evidence: Evidence) -> None:
    content = evidence.contents[0]
    evidence.contents[0] = replace(content, numbers=(*content.numbers[1::-1], *content.numbers[2:]))


def _answered_from_the_past(evidence: Evidence) -> None:
    last = _appends(evidence)[-1]
    at_ns = (last.ended_ns + 1, last.ended_ns + 2)
    evidence.operations.append(Operation(last.client, "read", 0, last.length - 1, *at_ns, True, "somebody"))


def _told_another_place(evidence: Evidence) -> None:
    place = evidence.operations.index(_appends(evidence)[-1])
    one = evidence.operations[place]
    evidence.operations[place] = replace(one, length=one.length + 1)


def _told_of_more_than_there_was(evidence: Evidence) -> None:
    place = next(place for place, one in enumerate(evidence.operations) if one.kind == "read" and one.ok)
    evidence.operations[place] = replace(evidence.operations[place], length=1_000_000)


def _registered(*done: tuple[Literal["create", "delete", "pause", "read"], int | None]) -> list[RegistryOperation]:
    """One after the other, all with an answer: what has none would explain too much."""
    return [
        RegistryOperation("anna", kind, degree, "a", 2 * place, 2 * place + 1, "ok")
        for place, (kind, degree) in enumerate(done)
    ]


def _there_again(evidence: Evidence) -> None:
    evidence.registry = _registered(("create", None), ("delete", None), ("pause", 4))


def _created_twice(evidence: Evidence) -> None:
    evidence.registry = _registered(("create", None), ("create", None))


def _a_pause_is_forgotten(evidence: Evidence) -> None:
    evidence.registry = _registered(("create", None), ("pause", 2), ("pause", 3), ("read", 2))


def _looked_at_what_never_was(evidence: Evidence) -> None:
    end_ns = max(one.ended_ns for one in evidence.registry)
    evidence.registry.append(RegistryOperation("bert", "look", 99, "b", end_ns + 1, end_ns + 2, "ok"))


def _acknowledged(evidence: Evidence) -> list[RegistryOperation]:
    """Pauses, in their order; alone, each in one place of the history."""
    return sorted((one for one in evidence.registry if one.until), key=lambda one: one.ended_ns)


def _forgotten_by_all(evidence: Evidence) -> None:
    until = _acknowledged(evidence)[-1].until
    evidence.history = [one for one in evidence.history if until not in one.text]


def _agreed_before_it_was_asked_for(evidence: Evidence) -> None:
    first, last = _acknowledged(evidence)[0].until, _acknowledged(evidence)[-1].until
    for place, one in enumerate(evidence.history):
        for until, other in ((first, last), (last, first)):
            if one.kind == "paused" and until in one.text:
                evidence.history[place] = replace(one, text=one.text.replace(until, other))


def _a_creation_is_forgotten(evidence: Evidence) -> None:
    evidence.history = [
        one for one in evidence.history if one.kind != "program-created" or one.program == evidence.program
    ]


def _another_history(evidence: Evidence) -> None:
    evidence.history[-1] = replace(evidence.history[-1], text="something else")


def _an_event_is_missing(evidence: Evidence) -> None:
    teller = evidence.history[-1].teller
    of_it = [one for one in evidence.history if one.teller == teller]
    evidence.history.remove(of_it[len(of_it) // 2])


def _history_is_changed(evidence: Evidence) -> None:
    evidence.history.append(replace(evidence.history[0], text="something else"))


def _a_node_remembers_nothing(evidence: Evidence) -> None:
    teller = evidence.history[-1].teller
    evidence.history = [one for one in evidence.history if one.teller != teller]


def _never_whole(evidence: Evidence) -> None:
    evidence.struck[-1] = replace(evidence.struck[-1], whole_ns=None, unhealed="nobody serves")


def _late(evidence: Evidence) -> None:
    one = evidence.struck[-1]
    evidence.struck[-1] = replace(one, whole_ns=one.healed_ns + int((WHOLE_S_MAX + 1) * NS_PER_S))


def _nobody_serves_for_long(evidence: Evidence) -> None:
    """While a fault lasts, and all is whole in the end, in time."""
    last = replace(evidence.struck[-1], loses="staleness")
    silent_ns = int((SILENT_S_MAX + 1) * NS_PER_S)
    over_ns = last.begun_ns + silent_ns
    evidence.struck[-1] = replace(last, over_ns=over_ns, healed_ns=over_ns, whole_ns=over_ns + silent_ns)
    evidence.operations = [
        one if one.ended_ns <= last.begun_ns else replace(one, ended_ns=one.ended_ns + silent_ns)
        for one in evidence.operations
    ]


def _not_switched_over(evidence: Evidence) -> None:
    last = evidence.struck[-1]
    number = last.number + 1
    evidence.struck.append(replace(last, number=number, kind="switched-over", effect="", unhealed="it is refused"))


def _a_client_hangs(evidence: Evidence) -> None:
    """It alone: others are answered, also of its list."""
    last = evidence.struck[-1]
    evidence.struck[-1] = replace(last, whole_ns=last.healed_ns)
    late_ns = last.healed_ns + int((ANSWERED_S_MAX + 1) * NS_PER_S)
    client = evidence.operations[0].asker
    kept = [one for one in evidence.operations if one.asker != client or one.ended_ns <= last.healed_ns]
    evidence.operations = [*kept, Operation(client, "read", 0, 0, last.healed_ns, late_ns, False, client)]


def _a_process_too_many(evidence: Evidence) -> None:
    last = next(one for one in reversed(evidence.census) if one.role == "daemon")
    evidence.census.append(replace(last, processes=last.processes + 1))


def _descriptors_grow(evidence: Evidence) -> None:
    last = next(one for one in reversed(evidence.census) if one.role == "daemon")
    most = max(one.descriptors for one in evidence.census)
    evidence.census.append(replace(last, descriptors=most + GROWTH_MAX + 1))


def _memory_grows(evidence: Evidence) -> None:
    last = next(one for one in reversed(evidence.census) if one.role == "daemon")
    most = max(one.resident_kib for one in evidence.census)
    evidence.census.append(replace(last, resident_kib=most + (MEMORY_MIB_MAX[""] + 1) * 1024))


def _grows(name: str, by: int) -> Callable[[Evidence], None]:
    """Half an hour in which one quantity of a daemon grows, little by little."""

    def plant(evidence: Evidence) -> None:
        last = next(one for one in reversed(evidence.samples) if one.role == "daemon")
        calm = replace(last, pid=0, tasks=last.tasks or 0)
        for minute in range(31):
            grown = {name: getattr(calm, name) + by * minute // 30}
            evidence.samples.append(replace(calm, at_ns=last.at_ns + 60 * minute * NS_PER_S, **grown))

    return plant


PLANTED = (
    Planted("two nodes answer in turns", one_serves_at_a_time, "I1", _two_take_turns),
    Planted("a node answers that was granted nothing", one_serves_at_a_time, "I1", _served_without_a_token),
    Planted("a node answers under a token that is over", one_serves_at_a_time, "I1", _answered_after_it_was_told),
    Planted("a node that is cut off serves on", none_serves_without_a_lease, "I3", _serves_without_a_lease),
    Planted("a term goes back", terms_rise, "I11", _a_term_goes_back),
    Planted("two lead in one term", terms_rise, "I11", _two_lead_in_one_term),
    Planted("a token is granted twice", tokens_rise, "I2", _granted_twice),
    Planted("a token goes back", tokens_rise, "I2", _token_goes_back),
    Planted("a write is lost without a fault", nothing_is_lost, "I5", _lost_without_a_fault),
    Planted("a write is lost when all was whole", nothing_is_lost, "I5", _lost_when_all_was_whole),
    Planted("a write is lost that was seen after the fault", nothing_is_lost, "I5", _lost_though_it_was_seen_again),
    Planted("a write is lost by a fault that costs nothing", nothing_is_lost, "I5", _lost_though_nothing_may_be),
    Planted("a write older than the reported staleness is lost", nothing_is_lost, "I5", _lost_more_than_reported),
    Planted("something is there that nobody wrote", nothing_is_invented, "I8", _never_written),
    Planted("a write is done twice", nothing_is_invented, "I8", _written_twice),
    Planted("two writes change places", nothing_is_invented, "I8", _out_of_order),
    Planted("a list is longer than what was written", nothing_is_invented, "I8", _told_of_more_than_there_was),
    Planted("a question is answered from an older state", nothing_comes_back, "I1", _answered_from_the_past),
    Planted("a write is not where it was said to be", nothing_comes_back, "I1", _told_another_place),
    Planted("a program is there again that was not", registry_is_linearizable, "I6", _there_again),
    Planted("a pause is forgotten", registry_is_linearizable, "I6", _a_pause_is_forgotten),
    Planted("a program is created twice", registry_is_linearizable, "I6", _created_twice),
    Planted("a pause is forgotten by all", what_is_acknowledged_is_remembered, "I6", _forgotten_by_all),
    Planted("two pauses change places", what_is_acknowledged_is_remembered, "I6", _agreed_before_it_was_asked_for),
    Planted("a creation is forgotten by all", what_is_acknowledged_is_remembered, "I6", _a_creation_is_forgotten),
    Planted("somebody sees what never was", registry_is_linearizable, "I6", _looked_at_what_never_was),
    Planted("a node tells another history", registries_are_equal, "I10", _another_history),
    Planted("a node has missed an event", registries_are_equal, "I10", _an_event_is_missing),
    Planted("a node tells its history otherwise than before", registries_are_equal, "I10", _history_is_changed),
    Planted("a node remembers nothing", registries_are_equal, "I10", _a_node_remembers_nothing),
    Planted("it is never whole again", all_is_whole_again, "I12", _never_whole),
    Planted("it takes too long to be whole again", all_is_whole_again, "I12", _late),
    Planted("nobody serves for long", somebody_is_answered, "I12", _nobody_serves_for_long),
    Planted("a switchover fails", orders_are_carried_out, "I12", _not_switched_over),
    Planted("a client is not answered any more", all_are_answered_again, "I12", _a_client_hangs),
    Planted("a process is left over", nothing_leaks, "I13", _a_process_too_many),
    Planted("descriptors are left open", nothing_leaks, "I13", _descriptors_grow),
    Planted("memory is not given back", nothing_leaks, "I13", _memory_grows),
    Planted("descriptors grow, little by little", nothing_grows, "I13", _grows("descriptors", 20)),
    Planted("memory grows, little by little", nothing_grows, "I13", _grows("resident_kib", 60 << 10)),
    Planted("threads grow, little by little", nothing_grows, "I13", _grows("threads", 8)),
    Planted("tasks grow, little by little", nothing_grows, "I13", _grows("tasks", 30)),
)


def _no_effect(evidence: Evidence) -> None:
    evidence.struck[-1] = replace(evidence.struck[-1], effect="")


def _no_fault(evidence: Evidence) -> None:
    evidence.struck.clear()


def _little_load(evidence: Evidence) -> None:
    first, last = _appends(evidence)[0], _appends(evidence)[-1]
    evidence.operations = [first, replace(last, ended_ns=last.ended_ns + 60 * NS_PER_S)]


def _all_unanswered(evidence: Evidence) -> None:
    evidence.registry = [replace(one, outcome="unknown") for one in evidence.registry if one.kind != "read"]


def _staleness_unknown(evidence: Evidence) -> None:
    evidence.struck = [replace(one, loses="staleness") for one in evidence.struck]
    evidence.reports = [replace(one, lag_ms=3_600_000.0) for one in evidence.reports]


def _a_list_was_not_read(evidence: Evidence) -> None:
    evidence.contents = [replace(evidence.contents[0], client="nobody"), *evidence.contents[1:]]


def _words_are_others(evidence: Evidence) -> None:
    evidence.history = [replace(one, text=one.text.replace("token", "number")) for one in evidence.history]


INVALID: dict[str, Callable[[Evidence], None]] = {
    "a fault without an effect": _no_effect,
    "no fault at all": _no_fault,
    "too little load": _little_load,
    "no load at all": lambda evidence: evidence.operations.clear(),
    "nobody looked at the bridge": lambda evidence: evidence.servings.clear(),
    "the staleness was an hour": _staleness_unknown,
    "a list was not read": _a_list_was_not_read,
    "no change of the registry had an answer": _all_unanswered,
    "the history tells of no token": _words_are_others,
    "nobody asked for the terms": lambda evidence: evidence.standings.clear(),
    "nobody counted processes": lambda evidence: evidence.census.clear(),
    "nobody looked at processes": lambda evidence: evidence.samples.clear(),
    "nobody asked for the staleness": lambda evidence: evidence.reports.clear(),
    "the lists were not read": lambda evidence: evidence.contents.clear(),
    "nobody changed the registry": lambda evidence: evidence.registry.clear(),
    "nobody told the history": lambda evidence: evidence.history.clear(),
}
"""What makes a run say nothing."""
