"""What may leave before this member's disk has what it says (output commit), and for what a leader may count itself.

A message that promises something leaves when that is durable: then a crash takes nothing back that anybody heard. To
the others it looks as if it had been on its way for so long. What promises nothing leaves at once: a leader that waits
for its disk is still heard, and a follower that does still hears it. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from cluster.raft.wire import Appended, RaftMessage, RequestVote, Vote

HEARD_AFTER_S: Final = 0.01
"""When an answer has waited for that long, the leader hears at least that it is heard; a good disk is done before."""


@dataclass(frozen=True, slots=True)
class Promised:
    """Numbers of the disk's works. durable: the last that is done. all, term: the last that the log and the vote need,
    and that the term needs."""

    durable: int
    all: int
    term: int


def needed(message: RaftMessage, promised: Promised) -> int | None:
    """Return the work that must be done before `message` may leave; None when it promises nothing.

    A vote, and the wish for votes, which is the candidate's own; that entries are held; that a term has begun. Entries
    themselves promise nothing: a leader may send what it has not written yet (Ongaro's thesis, 10.2.1).
    """
    match message:
        case RequestVote() | Vote() | Appended(success=True):
            return promised.all
        case Appended():
            return promised.term
    return None


@dataclass(slots=True)
class _Held:
    message: RaftMessage
    needs: int
    since_s: float


class Gate:
    """The messages of one member that wait for its disk, in their order for each peer."""

    def __init__(self) -> None:
        self._held: dict[str, deque[_Held]] = {}

    def offer(self, peer: str, message: RaftMessage, promised: Promised, now_s: float) -> RaftMessage | None:
        """Return what leaves to `peer` now: the message; None, and it is held; or only that the leader is heard."""
        needs = needed(message, promised)
        held = self._held.setdefault(peer, deque())
        if needs is None or (needs <= promised.durable and not held):
            return message
        is_late = bool(held) and now_s - held[0].since_s > HEARD_AFTER_S
        last = held[-1] if held else None
        if last is not None and last.needs == needs and _says_more(message, last.message):
            last.message = message
        else:
            held.append(_Held(message, needs, now_s))
        if is_late and isinstance(message, Appended) and promised.term <= promised.durable:
            return Appended(message.term, message.round, 0, False, False)
        return None

    def release(self, durable: int, now_s: float) -> list[tuple[str, RaftMessage]]:
        """The disk is so far: return what leaves now, and to whom, in order."""
        leaving: list[tuple[str, RaftMessage]] = []
        for peer, held in self._held.items():
            while held and held[0].needs <= durable:
                one = held.popleft()
                leaving.append((peer, _as_of_now(one.message, now_s - one.since_s)))
        return leaving

    def drop(self, peer: str) -> None:
        """The connection is gone, and with it what waited for it."""
        self._held.pop(peer, None)


def _says_more(message: RaftMessage, earlier: RaftMessage) -> bool:
    """Whether nobody needs the earlier one any more: heartbeats go on while a disk takes its time."""
    return (
        isinstance(message, Appended)
        and isinstance(earlier, Appended)
        and (message.term, message.success, message.reset) == (earlier.term, earlier.success, earlier.reset)
        and message.next_index >= earlier.next_index
    )


def _as_of_now(message: RaftMessage, waited_s: float) -> RaftMessage:
    """A vote says how long ago its voter heard a leader: the disk's time is part of that."""
    return replace(message, heard_ago_s=message.heard_ago_s + waited_s) if isinstance(message, Vote) else message


def held_by_quorum(indices: Iterable[int]) -> int:
    """Return up to which entry a quorum has the log, if each member has it durable up to one of these."""
    newest = sorted(indices, reverse=True)
    return newest[len(newest) // 2]
