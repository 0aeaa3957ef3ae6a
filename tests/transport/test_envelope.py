"""Token and sequence around messages."""

from __future__ import annotations

import pytest

from transport.checkpoint import NOTHING
from transport.counters import Counters, Reason
from transport.envelope import Inbox, Outbox, RefusedEnvelope
from transport.frame import RefusedFrame, encode_frame
from transport.messages import STREAM, Ack, Bye, StreamMessage


def _boxes(token: int) -> tuple[Outbox[StreamMessage], Inbox[StreamMessage], Counters]:
    counters = Counters()
    return Outbox(STREAM, token), Inbox(STREAM, token, counters), counters


def test_messages_come_in_their_order() -> None:
    outbox, inbox, counters = _boxes(3)
    data = b"".join(b"".join(outbox.seal(message)) for message in (Ack(NOTHING), Bye("a"), Bye("b")))
    assert inbox.feed(data[:50]) + inbox.feed(data[50:]) == [Ack(NOTHING), Bye("a"), Bye("b")]
    assert counters.total == 0


@pytest.mark.parametrize(
    ("order", "reason"), [([0, 0], Reason.REPLAYED), ([1], Reason.SKIPPED), ([0, 2], Reason.SKIPPED)]
)
def test_each_message_comes_once_and_next(order: list[int], reason: Reason) -> None:
    outbox, inbox, counters = _boxes(3)
    frames = [b"".join(outbox.seal(Bye(str(number)))) for number in range(3)]
    for at in order[:-1]:
        inbox.feed(frames[at])
    with pytest.raises(RefusedEnvelope) as error:
        inbox.feed(frames[order[-1]])
    assert error.value.reason == reason
    assert counters.by_reason()[reason] == counters.total == 1


def test_a_lower_token_than_any_seen_is_refused() -> None:
    outbox, inbox, counters = _boxes(3)
    inbox.feed(b"".join(outbox.seal(Bye(""))))
    outbox.token = 5
    inbox.feed(b"".join(outbox.seal(Bye(""))))
    assert inbox.token == 5
    outbox.token = 4
    with pytest.raises(RefusedEnvelope, match="token 4; 5 has been seen"):
        inbox.feed(b"".join(outbox.seal(Bye(""))))
    assert counters.stale_token == 1


def test_a_body_that_is_not_its_message_is_refused() -> None:
    _, inbox, counters = _boxes(3)
    with pytest.raises(RefusedFrame):
        inbox.feed(b"".join(encode_frame(9, 3, 1, b"\x80")))
    assert counters.malformed == 1
