"""The JSON object, and what counts as a broken promise."""

from __future__ import annotations

import json
from dataclasses import replace

from kagemusha.demo.structures.report import Report, Takeover

KEPT = Takeover("exchange", "node_killed", "a", "b", 512.3, 61.0, 900, 12, False, 90, 0, 12345.6, 99_000)


def test_the_object_has_exactly_what_is_promised() -> None:
    (found,) = json.loads(Report([KEPT]).to_json())["programs"]
    assert found == {
        "program": "exchange",
        "kind": "node_killed",
        "gap_ms": 512.3,
        "staleness_reported_ms": 61.0,
        "updates_acknowledged": 900,
        "updates_lost": 12,
        "bytes_per_s": 12346,
        "full_bytes": 99000,
    }


def test_losses_within_the_staleness_are_no_broken_promise() -> None:
    assert Report([KEPT]).broken_promises() == []


def test_older_losses_and_those_that_were_safe_are() -> None:
    (older,) = replace(KEPT, beyond_staleness=True).broken_promises()
    assert "older than the reported staleness" in older
    (safe,) = replace(KEPT, sure_lost=2).broken_promises()
    assert "2 updates were lost that had been said to be safe" in safe
