"""The ledger: what is lost, survived, reset and hung is judged from replies alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kagemusha.demo.ledger import SLOTS, Connection, outcome

MS = 1_000_000


class Server:
    """A redis that can be put back to what it held after a write, as a takeover from an old checkpoint does."""

    def __init__(self) -> None:
        self.slots = [0] * SLOTS

    def write(self, number: int) -> int:
        """Returns the slot's previous value."""
        previous, self.slots[number % SLOTS] = self.slots[number % SLOTS], number
        return previous

    def back_to(self, number: int) -> None:
        """The state after write `number`."""
        self.slots = [0] * SLOTS
        for earlier in range(max(number - SLOTS, 0) + 1, number + 1):
            self.slots[earlier % SLOTS] = earlier


def write(connection: Connection, server: Server, count: int, from_ms: int) -> None:
    """One write a millisecond, each acknowledged and checked."""
    for at_ns in range(from_ms * MS, (from_ms + count) * MS, MS):
        previous = server.write(connection.next_write)
        if previous != connection.expected():
            connection.unexpected(previous, at_ns)
        connection.replies_ns.append(at_ns)


def test_nothing_is_lost_when_nothing_was_lost() -> None:
    connection, server = Connection("busy", 0), Server()
    write(connection, server, 200, from_ms=0)
    write(connection, server, 200, from_ms=500)
    judged = outcome([connection], 200 * MS)
    assert (judged.writes_lost, judged.busy_survived, judged.writes_acknowledged) == (0, 1, 200)
    assert judged.gap_ns == 301 * MS
    assert judged.answered_ns == 500 * MS


@settings(deadline=None)
@given(written=st.integers(0, 300), kept=st.integers(0, 300))
def test_every_lost_write_is_found_with_its_time(written: int, kept: int) -> None:
    kept = min(kept, written)
    connection, server = Connection("busy", 0), Server()
    write(connection, server, written, from_ms=0)
    server.back_to(kept)
    write(connection, server, SLOTS, from_ms=1000)
    judged = outcome([connection], 999 * MS)
    assert sorted(lost.number for lost in connection.lost) == list(range(kept + 1, written + 1))
    assert judged.writes_lost == written - kept
    assert judged.oldest_lost_ns == (kept * MS if written > kept else None)
    assert not judged.foreign


def test_a_write_that_is_sent_again_may_have_arrived_the_first_time() -> None:
    connection, server = Connection("busy", 0), Server()
    write(connection, server, 40, from_ms=0)
    server.write(connection.next_write)
    write(connection, server, SLOTS, from_ms=100)
    assert not connection.lost
    assert not connection.foreign


def test_values_that_nobody_wrote_are_named() -> None:
    connection, server = Connection("busy", 3), Server()
    write(connection, server, 40, from_ms=0)
    connection.unexpected(999, 40 * MS)
    connection.unexpected(connection.expected() - 1, 40 * MS)
    judged = outcome([connection], 39 * MS)
    assert judged.foreign == ["busy 3: write 41 found 999, expected 25", "busy 3: write 41 found 24, expected 25"]


def test_a_connection_survives_only_if_it_answers_without_a_reset_or_a_hang() -> None:
    connections = [Connection("idle", number) for number in range(4)]
    for connection in connections[:3]:
        connection.replies_ns.extend([1, 200])
    connections[1].resets_ns.append(150)
    connections[2].hangs_ns.append(150)
    connections[3].replies_ns.append(1)
    judged = outcome(connections, 100)
    assert (judged.idle, judged.idle_survived, judged.reset, judged.hung) == (4, 1, 1, 1)
    assert judged.silent == ["idle 3"]


def test_what_happened_before_the_event_does_not_count() -> None:
    connection, server = Connection("busy", 0), Server()
    write(connection, server, 40, from_ms=0)
    server.back_to(20)
    connection.resets_ns.append(50 * MS)
    write(connection, server, SLOTS, from_ms=100)
    write(connection, server, SLOTS, from_ms=200)
    judged = outcome([connection], 199 * MS)
    assert (judged.writes_lost, judged.reset, judged.busy_survived) == (0, 0, 1)


def test_idle_connections_count_for_survival_and_not_for_the_gap() -> None:
    idle, busy = Connection("idle", 0), Connection("busy", 0)
    idle.replies_ns.extend([0, 5000 * MS])
    busy.replies_ns.extend([3999 * MS, 4010 * MS])
    judged = outcome([idle, busy], 4000 * MS)
    assert judged.gap_ns == 11 * MS
    assert judged.gaps_ns == {"busy": 11 * MS}
    assert judged.idle_survived == 1
