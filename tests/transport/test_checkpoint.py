"""The checkpoint as a value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.checkpoint import NOTHING, Version, apply_records, chain_digest, combined_sum, diff_records
from transport.errors import CorruptUpdate

records = st.dictionaries(st.sampled_from(["process", "fd/1", "fd/2", "tcp/9", "thread/1"]), st.binary(max_size=3))


@given(records, records)
def test_a_difference_leads_from_old_to_new(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    changed, removed = diff_records(old, new)
    before = dict(old)
    assert apply_records(old, changed, removed) == new
    assert old == before
    assert all(old.get(key) != value for key, value in changed.items())


def test_equal_records_differ_in_nothing() -> None:
    assert diff_records({"a": b"1"}, {"a": b"1"}) == ({}, ())


@pytest.mark.parametrize(("changed", "removed"), [({}, ["b"]), ({"a": b""}, ["a"]), ({}, ["a", "a"])])
def test_a_difference_that_does_not_fit_is_corrupt(changed: dict[str, bytes], removed: list[str]) -> None:
    with pytest.raises(CorruptUpdate):
        apply_records({"a": b"1"}, changed, removed)


def test_golden_digests() -> None:
    assert chain_digest(Version(1, 2, 3), 1, 3, [4, 5], 6) == 5698389533061588037
    assert combined_sum([1, 2]) == 571542372673154031
    assert combined_sum([]) == 3244421341483603138
    assert combined_sum([9]) == 9


def test_every_part_of_a_history_is_in_its_digest() -> None:
    digests = {
        chain_digest(Version(1, 2, 3), 1, 3, [4, 5], 6),
        chain_digest(Version(2, 2, 3), 1, 3, [4, 5], 6),
        chain_digest(Version(1, 3, 3), 1, 3, [4, 5], 6),
        chain_digest(Version(1, 2, 4), 1, 3, [4, 5], 6),
        chain_digest(Version(1, 2, 3), 2, 3, [4, 5], 6),
        chain_digest(Version(1, 2, 3), 1, 4, [4, 5], 6),
        chain_digest(Version(1, 2, 3), 1, 3, [5, 4], 6),
        chain_digest(Version(1, 2, 3), 1, 3, [4], 6),
        chain_digest(Version(1, 2, 3), 1, 3, [4, 5], 7),
        chain_digest(NOTHING, 1, 3, [4, 5], 6),
    }
    assert len(digests) == 10
    assert 0 not in digests


def test_a_version_reads_as_token_number_digest() -> None:
    assert str(Version(7, 42, 0x0123456789ABCDEF)) == "7.42.0123456789abcdef"


def test_a_version_is_followed_by_later_ones_of_the_same_primary_alone() -> None:
    held = Version(2, 6, 7)
    assert held.is_or_follows(held)
    assert held.is_or_follows(Version(2, 5, 1))
    assert not held.is_or_follows(Version(2, 6, 8)), "another state under the same number"
    assert not held.is_or_follows(Version(2, 7, 1))
    assert not held.is_or_follows(Version(1, 5, 1))
