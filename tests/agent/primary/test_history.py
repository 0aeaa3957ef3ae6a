"""The union of what a mirror missed leads to the same records as all the differences that it missed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.primary.history import RecordHistory
from transport.checkpoint import apply_records

STATES = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.binary(max_size=2)), min_size=1, max_size=12
)


@given(STATES, st.data())
def test_a_union_from_any_checkpoint_leads_to_the_newest(states: list[dict[str, bytes]], data: st.DataObject) -> None:
    history = RecordHistory()
    for number, state in enumerate(states, 1):
        before = dict(history.records)
        assert apply_records(before, *history.advance(number, state)) == state
    base = data.draw(st.integers(1, len(states)))
    assert apply_records(states[base - 1], *history.since(base)) == states[-1]


def test_a_record_that_came_and_went_between_is_not_mentioned() -> None:
    history = RecordHistory()
    history.advance(1, {"a": b"1"})
    history.advance(2, {"a": b"1", "b": b"2"})
    history.advance(3, {"a": b"1"})
    assert history.since(1) == ({}, ())
    assert history.since(2) == ({}, ("b",))
    history.forget_before(3)
    assert history.since(2) == ({}, ())


def test_a_new_primary_begins_with_what_it_was_given() -> None:
    history = RecordHistory()
    history.seed(7, {"a": b"1"})
    history.advance(8, {"a": b"2"})
    assert history.since(7) == ({"a": b"2"}, ())
