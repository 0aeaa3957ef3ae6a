"""The marks of one primary: when one can be made, what it names and how old that is, and which are remembered. Pure.

A mark is dated by the source that has been silent for the longest: what it names is at least as new as that. A source
that goes on from what it holds has said where it stands, but not yet when; until it has, there is no mark.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final

import xxhash

from agent.warm.feed_events import Source
from transport.checkpoint import NOTHING, Version
from transport.structure_messages import Held, Mark

MARKS_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Dated:
    """A mark as it was made. bytes: of all updates up to it."""

    mark: Mark
    bytes: int


class Marks:
    """The newest MARKS_MAX of them. made: how many there were."""

    def __init__(self, token: int, number: int) -> None:
        """number: of the mark that it goes on from."""
        self.made = 0
        self._token = token
        self._number = number
        self._newest: deque[Dated] = deque(maxlen=MARKS_MAX)
        self._known_ns: dict[Source, int] = {}
        self._silent: set[Source] = set()
        self._is_over = False

    @property
    def newest(self) -> Mark | None:
        """The last that was made."""
        return self._newest[-1].mark if self._newest else None

    @property
    def version(self) -> Version:
        """Of the newest; NOTHING while there is none."""
        return self._newest[-1].mark.version if self._newest else NOTHING

    @property
    def last(self) -> Mark | None:
        """The one behind which nothing follows; None while the program goes on."""
        return self.newest if self._is_over else None

    @property
    def can_be_made(self) -> bool:
        """Whether what has come so far can be dated, and more may come."""
        return not self._is_over and not self._silent

    def dated(self, version: Version) -> Dated | None:
        """The mark of that version, if it is remembered."""
        return next((one for one in reversed(self._newest) if one.mark.version == version), None)

    def up_to(self, number: int) -> Mark | None:
        """The newest whose number is not higher, if one is remembered."""
        return next((one.mark for one in reversed(self._newest) if one.mark.version.number <= number), None)

    def make(self, holds: Mapping[str, Held], sources: Set[Source], sent_bytes: int, *, final: bool) -> Mark:
        """Make the next one. holds: version and state of every structure, in order. sources: of them all.

        sent_bytes: of all updates so far. final: nothing follows.
        """
        self._is_over = final
        self._number += 1
        captured_ns = min(self._known_ns.get(source, 0) for source in sources)
        mark = Mark(Version(self._token, self._number, _digest(holds)), captured_ns, dict(holds), final)
        self._newest.append(Dated(mark, sent_bytes))
        self.made += 1
        return mark

    def reopen(self) -> None:
        """The last mark was not the last: the program goes on."""
        self._is_over = False

    def nothing_newer(self, source: Source, at_ns: int) -> None:
        """At this time (CLOCK_REALTIME) a source had nothing newer than what it has sent."""
        self._silent.discard(source)
        self._known_ns[source] = max(at_ns, self._known_ns.get(source, 0))

    def goes_on(self, source: Source) -> None:
        """A source says where it stands."""
        if source not in self._known_ns:
            self._silent.add(source)

    def follow(self, version: Version) -> None:
        """A mirror holds this one: where it is of this token, an agent was here before, and no number comes again."""
        if version.token == self._token:
            self._number = max(self._number, version.number)


def _digest(holds: Mapping[str, Held]) -> int:
    digest = xxhash.xxh3_64()
    for name, (version, state) in holds.items():
        digest.update(name.encode() + b"\0" + version.to_bytes(8, "little") + state)
    return digest.intdigest() or 1
