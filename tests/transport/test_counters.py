"""Every reason has a counter, and no counter is without a reason."""

from __future__ import annotations

from transport.counters import Counters, Reason


def test_every_reason_is_counted_by_its_name() -> None:
    counters = Counters()
    assert set(counters.by_reason()) == {reason.value for reason in Reason}
    for number, reason in enumerate(Reason, 1):
        counters.count(reason)
        assert counters.by_reason()[reason] == 1
        assert counters.total == number
