"""Which connections survive a takeover from a checkpoint that is older than what the clients have seen. Pure.

A mirror that takes over after its primary's node was lost holds each connection as it was at the last checkpoint. What
happened after that nobody knows, but each client knows its own part: so every restored connection is asked by one probe
segment, and the first thing that its client says decides (R = next byte expected from the client, N = next byte to be
sent to it, both of the record):

    it acknowledges more than N        it has read answers of a future that is lost           reset
    its next byte is R, or before it   nothing of it was lost                                 survives
    its next byte is beyond R          it has sent something since the checkpoint. Either that is still unacknowledged
                                       and it will send it again, or the lost primary had taken it:
        its timestamp echo is younger than the record: the lost primary spoke to it           reset
        the echo is older                                                                     survives
        no timestamps, or the same millisecond: whoever does not repeat it in time is         reset

Nothing may be sent on such a connection before its client has spoken, else two streams would be mixed: it is restored
with a closed window, which the client's first valid segment opens (`agent.network.restored_sockets`).

Connections that clients opened after the checkpoint were announced, and are not restored: their clients are poked with
a segment outside of their window, their answer finds no connection and draws a reset from this node's kernel. So no
client waits for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Connection = tuple[str, int, str, int]
"""The program's address and port, the client's address and port."""

_REPEAT_MS: Final = (20, 100, 700, 1500)
"""When an unanswered question is put again. Clients answer at most one poke in 500 ms."""
_END_MS: Final = 3000
_REPETITION_EXTRA_MS: Final = 500
_REPETITION_MS_MAX: Final = 15_000
_HALF: Final = 1 << 31
_SAME_CLOCK_MS: Final = 1


class Verdict(StrEnum):
    """What became of a restored connection."""

    SURVIVED = "survived"
    RESET = "reset"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Expected:
    """A restored connection, as its record has it.

    unacknowledged, send_next: sequence numbers of the first byte that the client has not acknowledged and of the next
    byte that the program will write. receive_next: of the next byte from the client. clock: of the timestamp option at
    the time of the record; None if the connection has no timestamps.
    """

    connection: Connection
    unacknowledged: int
    send_next: int
    receive_next: int
    clock: int | None


@dataclass(frozen=True, slots=True)
class Heard:
    """Event: a segment of a client. sequence: of its first byte, of which it carries `data_bytes`. echo: of its
    timestamp option. A reset or opening segment says so."""

    connection: Connection
    sequence: int
    acknowledgement: int
    data_bytes: int
    echo: int | None = None
    reset: bool = False
    opening: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """Event: time has passed."""


Event = Heard | Due


@dataclass(frozen=True, slots=True)
class Probe:
    """Effect: ask the client of a restored connection again."""

    expected: Expected


@dataclass(frozen=True, slots=True)
class Reset:
    """Effect: end a restored connection: its program sees an error, its client a reset at `acknowledgement`, the next
    byte that the client expects; None: the client has ended it itself."""

    connection: Connection
    acknowledgement: int | None


@dataclass(frozen=True, slots=True)
class Poke:
    """Effect: make the client of a connection that is not restored show itself, so that it is reset."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Finished:
    """Effect: nothing is left to be decided."""


Effect = Probe | Reset | Poke | Finished


@dataclass(slots=True)
class _Question:
    """What is not decided yet. repeats: how often it was put again. repeat_by_ms: until when the client must have
    repeated what it had sent (0: it has not spoken); expects: the next byte that it wants."""

    expected: Expected | None
    repeats: int = 0
    repeat_by_ms: float = 0.0
    expects: int = 0


class Connections:
    """The connections of one takeover. `step(now_ms, event) -> effects`; `start` first."""

    def __init__(self, restored: Iterable[Expected], strangers: Iterable[Connection], outage_ms: float) -> None:
        """strangers: connections of clients that are not restored. outage_ms: how long the clients had no primary: a
        client's next repetition is at most as far away again."""
        self.verdicts: dict[Connection, Verdict] = {}
        self.poked = 0
        self._restored = {one.connection: _Question(one) for one in restored}
        self._strangers = {one: _Question(None) for one in strangers if one not in self._restored}
        self._patience_ms = min(outage_ms + _REPETITION_EXTRA_MS, _REPETITION_MS_MAX)
        self._started_ms = 0.0
        self._finished = False

    def start(self, now_ms: float) -> list[Effect]:
        """Begin. Restored connections have just asked by themselves, when they left repair mode."""
        self._started_ms = now_ms
        pokes: list[Effect] = [Poke(connection) for connection in self._strangers]
        self.poked = len(pokes)
        return pokes + self._end(now_ms)

    def count(self, verdict: Verdict) -> int:
        """How many restored connections came to this."""
        return sum(1 for one in self.verdicts.values() if one is verdict)

    def due_ms(self) -> float | None:
        """When `Due` must be stepped next; None when all is decided."""
        if self._finished:
            return None
        times = [
            question.repeat_by_ms
            if question.repeat_by_ms
            else self._started_ms + (*_REPEAT_MS, _END_MS)[question.repeats]
            for question in (*self._restored.values(), *self._strangers.values())
        ]
        return min(times, default=None)

    def step(self, now_ms: float, event: Event) -> list[Effect]:
        """Advance by one event at `now_ms`."""
        effects: list[Effect] = []
        if isinstance(event, Heard):
            question = self._restored.get(event.connection)
            if question is not None and question.expected is not None:
                effects = self._judge(now_ms, event, question, question.expected)
            elif event.connection in self._strangers:
                # Whatever it says finds no connection here: the kernel resets it, or lets it connect anew.
                del self._strangers[event.connection]
        else:
            effects = self._repeat(now_ms)
        return effects + self._end(now_ms)

    # ---------------------------------------------------------------- inside

    def _judge(self, now_ms: float, heard: Heard, question: _Question, expected: Expected) -> list[Effect]:
        if heard.opening:
            return []
        if heard.reset:
            return self._reset(heard.connection, None)
        # Only the first thing it says: from then on the program may send, and be acknowledged.
        if not question.repeat_by_ms and _is_after(heard.acknowledgement, expected.send_next):
            return self._reset(heard.connection, heard.acknowledgement)
        question.expects = heard.acknowledgement
        if not _is_after(heard.sequence, expected.receive_next):
            return self._decide(heard.connection, Verdict.SURVIVED)
        age_ms = (
            _distance(expected.clock, heard.echo) if expected.clock is not None and heard.echo is not None else None
        )
        if age_ms is not None and age_ms < 0:
            return self._decide(heard.connection, Verdict.SURVIVED)
        if age_ms is not None and age_ms > _SAME_CLOCK_MS:
            return self._reset(heard.connection, heard.acknowledgement)
        if not question.repeat_by_ms:
            question.repeat_by_ms = now_ms + self._patience_ms
        return []

    def _repeat(self, now_ms: float) -> list[Effect]:
        effects: list[Effect] = []
        for connection, question in list(self._restored.items()):
            if question.repeat_by_ms:
                if now_ms >= question.repeat_by_ms:
                    effects += self._reset(connection, question.expects)
            elif self._must_ask(now_ms, question):
                effects += [Probe(question.expected)] if question.expected is not None else []
            elif now_ms >= self._started_ms + _END_MS:
                self._decide(connection, Verdict.SILENT)
        for connection, question in list(self._strangers.items()):
            if self._must_ask(now_ms, question):
                effects.append(Poke(connection))
            elif now_ms >= self._started_ms + _END_MS:
                del self._strangers[connection]
        return effects

    def _must_ask(self, now_ms: float, question: _Question) -> bool:
        if question.repeats >= len(_REPEAT_MS) or now_ms < self._started_ms + _REPEAT_MS[question.repeats]:
            return False
        question.repeats += 1
        return True

    def _reset(self, connection: Connection, acknowledgement: int | None) -> list[Effect]:
        self._decide(connection, Verdict.RESET)
        return [Reset(connection, acknowledgement)]

    def _decide(self, connection: Connection, verdict: Verdict) -> list[Effect]:
        del self._restored[connection]
        self.verdicts[connection] = verdict
        return []

    def _end(self, now_ms: float) -> list[Effect]:
        if self._finished or self._restored or self._strangers:
            return []
        self._finished = True
        return [Finished()]


def _distance(start: int, end: int) -> int:
    """From one number to another on the circle of 32-bit numbers (RFC 9293, section 3.4)."""
    return (end - start + _HALF) % (2 * _HALF) - _HALF


def _is_after(one: int, other: int) -> bool:
    return _distance(other, one) > 0
