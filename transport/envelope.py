"""Around each message: the sender's fencing token and the place in the sequence. Sans-I/O, no clock. Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

from transport.codec import MessageSet
from transport.counters import Counters, Reason
from transport.errors import FrameError, StaleUpdate
from transport.frame import Buffer, Frame, FrameDecoder, RefusedFrame, encode_frame

M = TypeVar("M")


class RefusedEnvelope(StaleUpdate):
    """A frame that is whole, but of a lower token, or not the next in sequence; the connection ends here."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason


class Outbox(Generic[M]):
    """Numbers the messages of one direction of one connection.

    token: the sender's fencing token; may be raised while the connection lasts.
    """

    def __init__(self, messages: MessageSet[M], token: int) -> None:
        self._messages = messages
        self._sequence = 0
        self.token = token

    def seal(self, message: M) -> list[Buffer]:
        """Return the buffers that carry `message`, to be sent in the order of the calls."""
        kind, body = self._messages.encode(message)
        self._sequence += 1
        return encode_frame(kind, self.token, self._sequence, body)


class Inbox(Generic[M]):
    """Opens what comes in on one connection: frames within limits, in sequence, never of a lower token.

    token: the highest seen; begins with what the receiver knows already.
    """

    def __init__(self, messages: MessageSet[M], token: int, counters: Counters) -> None:
        self._messages = messages
        self._decoder = FrameDecoder(messages.limits, counters)
        self._counters = counters
        self._sequence = 0
        self.token = token

    def feed(self, data: Buffer) -> list[M]:
        """Return the messages that `data` completes.

        Raises RefusedFrame or RefusedEnvelope, counted; the connection must then be closed.
        """
        return [self.open(frame) for frame in self._decoder.feed(data)]

    def open(self, frame: Frame) -> M:
        """Return the message of one frame; see `feed`."""
        if frame.token < self.token:
            self._refuse(Reason.STALE_TOKEN, f"a frame carries token {frame.token}; {self.token} has been seen")
        expected = self._sequence + 1
        if frame.sequence < expected:
            self._refuse(Reason.REPLAYED, f"frame {frame.sequence} comes again; {expected} is the next")
        if frame.sequence > expected:
            self._refuse(Reason.SKIPPED, f"frame {frame.sequence} comes before {expected}")
        try:
            message = self._messages.decode(frame.kind, frame.body)
        except FrameError as error:
            self._counters.count(Reason.MALFORMED)
            raise RefusedFrame(Reason.MALFORMED, error.what) from None
        self._sequence = expected
        self.token = frame.token
        return message

    def _refuse(self, reason: Reason, what: str) -> None:
        self._counters.count(reason)
        raise RefusedEnvelope(reason, what)
