"""A bad wire does what it says, and nothing else."""

from __future__ import annotations

import random
import socket

from tests.chaos.bad_wire import Wire

_HEADERS = 10


def frame(source: str, data: bytes) -> bytes:
    """A TCP segment in an IPv4 packet in an Ethernet frame, behind a header of the kernel's."""
    tcp = bytes(12) + b"\x50" + bytes(7) + data
    ip = b"\x45\x00" + (20 + len(tcp)).to_bytes(2, "big") + bytes(5) + bytes([socket.IPPROTO_TCP]) + bytes(2)
    return bytes(_HEADERS) + bytes(12) + b"\x08\x00" + ip + socket.inet_aton(source) + bytes(4) + tcp


def test_a_good_wire_changes_nothing() -> None:
    one = frame("10.0.0.1", b"data")
    assert Wire().deliver(one, _HEADERS, random.Random(1)) == [(0.0, one)]


def test_frames_are_late_and_overtake_each_other() -> None:
    chance = random.Random(1)
    times = [Wire(delay_ms=10, jitter_ms=5).deliver(b"frame", 0, chance)[0][0] for _ in range(100)]
    assert min(times) >= 0.010
    assert max(times) <= 0.015
    assert times != sorted(times)


def test_some_arrive_twice() -> None:
    chance = random.Random(1)
    counts = [len(Wire(duplicated=0.5).deliver(b"frame", 0, chance)) for _ in range(1000)]
    assert set(counts) == {1, 2}
    assert 1400 < sum(counts) < 1600


def test_one_bit_of_the_data_is_wrong_and_all_else_as_it_was() -> None:
    one = frame("10.0.0.1", bytes(100))
    for seed in range(50):
        [(_, came)] = Wire(corrupted=1.0).deliver(one, _HEADERS, random.Random(seed))
        differing = [place for place in range(len(one)) if came[place] != one[place]]
        assert len(differing) == 1
        assert differing[0] >= len(one) - 100
        assert (came[differing[0]] ^ one[differing[0]]).bit_count() == 1


def test_what_has_no_data_or_is_spared_is_not_corrupted() -> None:
    chance = random.Random(1)
    for one in (frame("10.0.0.1", b""), frame("10.0.0.9", b"data"), bytes(60), b""):
        assert Wire(corrupted=1.0, spared="10.0.0.9").deliver(one, _HEADERS, chance) == [(0.0, one)]
