"""All checkers, and what they say together."""

from __future__ import annotations

from itertools import islice

from tests.chaos.checkers.growth import nothing_grows
from tests.chaos.checkers.recovery import (
    all_are_answered_again,
    all_is_whole_again,
    nothing_leaks,
    orders_are_carried_out,
    registries_are_equal,
    somebody_is_answered,
)
from tests.chaos.checkers.registry import registry_is_linearizable
from tests.chaos.checkers.remembered import what_is_acknowledged_is_remembered
from tests.chaos.checkers.serving import none_serves_without_a_lease, one_serves_at_a_time
from tests.chaos.checkers.tokens import terms_rise, tokens_rise
from tests.chaos.checkers.verdict import Checker, Violation
from tests.chaos.checkers.writes import nothing_comes_back, nothing_is_invented, nothing_is_lost
from tests.chaos.evidence import Evidence

CHECKERS: tuple[Checker, ...] = (
    one_serves_at_a_time,
    none_serves_without_a_lease,
    tokens_rise,
    terms_rise,
    nothing_is_lost,
    nothing_is_invented,
    nothing_comes_back,
    registry_is_linearizable,
    what_is_acknowledged_is_remembered,
    registries_are_equal,
    all_is_whole_again,
    somebody_is_answered,
    all_are_answered_again,
    orders_are_carried_out,
    nothing_leaks,
    nothing_grows,
)
_OF_EACH_MAX = 20


def violations(evidence: Evidence) -> list[Violation]:
    """What is wrong; at most twenty of a kind, for one mistake is found a thousand times."""
    return [violation for checker in CHECKERS for violation in islice(checker(evidence), _OF_EACH_MAX)]
