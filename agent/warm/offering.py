"""A primary's side: what its program says, and what is captured of it, goes to the mirrors. In the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog

from agent.structures.update import Update
from agent.warm.assembly import Aged
from agent.warm.audience import Audience
from agent.warm.feed import Feed
from agent.warm.feed_events import (
    AskWhole,
    Confirm,
    Drop,
    FeedEffect,
    FeedEvent,
    Lost,
    Nothing,
    Progress,
    Send,
    Stands,
    Supplied,
    Tick,
    Told,
    Updated,
)
from agent.warm.native import Native
from agent.warm.program_socket import ProgramSocket
from agent.warm.said import Current, Declared, Gone, Hello, Said, Withdrawn
from transport.checkpoint import NOTHING, Version
from transport.errors import ControlError
from transport.messages import Announce
from transport.structure_messages import Declare

log = structlog.get_logger()


class Offering:
    """One primary. progress: told of the first mark that each mirror reaches: instance, incarnation, version.

    ask_native: asks for a whole copy of a native structure.
    """

    def __init__(
        self,
        feed: Feed,
        audience: Audience,
        program: ProgramSocket,
        interval_s: float,
        progress: Callable[[str, int, Version], None],
        ask_native: Callable[[str], None] = lambda structure: None,
    ) -> None:
        self.feed = feed
        self._audience = audience
        self._program = program
        self._progress = progress
        self._ask_native = ask_native
        self._has_begun = False
        self._ticking = asyncio.create_task(self._tick(interval_s))
        audience.open(self.event)

    def close(self) -> None:
        """Offer nothing more, to nobody."""
        self._ticking.cancel()
        self._audience.dismiss()

    def heard(self, said: Said) -> None:
        """Take in what the program says."""
        match said:
            case Hello(structures=structures):
                for one in structures:
                    self.declare(one)
                    self._stand(one)
            case Declared():
                self.declare(said)
                if said.holds is not None:
                    # It has just become the primary, and what it holds is all that there is.
                    self._has_begun = True
                    self.event(Nothing("program", time.time_ns()))
                    self._stand(said)
            case Withdrawn(structure, reason):
                self.event(Lost(structure, reason))
            case Aged(update, age_us):
                if not self._has_begun and update.is_whole:
                    # Where it does not go on from what it holds, it begins with whole copies of everything.
                    self._has_begun = True
                    self.event(Nothing("program", time.time_ns() - age_us * 1000))
                self.event(Updated(update, age_us))
            case Current(_, age_us):
                self.event(Nothing("program", time.time_ns() - age_us * 1000))
            case Gone():
                self.feed.interrupted()
            case _:
                pass

    def declare(self, one: Declared) -> None:
        """The program has a structure."""
        self.event(Supplied(Declare(one.structure, False, one.type, one.type_text, one.limit_bytes)))

    def _stand(self, one: Declared) -> None:
        """The program goes on from what it holds of a structure, if it holds any."""
        if one.holds is not None:
            self.event(Stands(one.structure, one.holds))

    async def capture(self, native: Native, token: int, *, anew: bool = False) -> None:
        """Mirror native structures, too; see `Native.supply`."""
        for declare, held in await native.supply(token, anew=anew):
            self.event(Supplied(declare))
            if held is not None:
                self.event(Stands(declare.structure, held))

    def captured(self, updates: Iterable[Update], at_ns: int) -> None:
        """What was captured of native structures, and when (CLOCK_REALTIME)."""
        self.event(Nothing("native", at_ns))
        age_us = max(time.time_ns() - at_ns, 0) // 1000
        for update in updates:
            self.event(Updated(update, age_us))

    def copied(self, updates: Iterable[Update]) -> None:
        """Whole copies that were asked for."""
        for update in updates:
            self.event(Updated(update, 0))

    def announce(self, announcement: Announce) -> None:
        """Tell all mirrors at once which connections came and went."""
        self.event(Told(announcement))

    def event(self, event: FeedEvent) -> None:
        """Take in one event, and do what follows."""
        for effect in self.feed.step(time.monotonic_ns(), event):
            self._perform(effect)

    def finish(self) -> Version:
        """Nothing follows: make the last mark. NOTHING where there is none, since not every structure has come."""
        self.event(Tick(final=True))
        return self.feed.version

    async def held_by(self, version: Version, limit_s: float, *, patient: bool = False) -> tuple[str, ...]:
        """The mirrors that have this mark, as soon as one has. Raises ControlError when none has within `limit_s`."""
        if version == NOTHING:
            raise ControlError("not every structure has a content yet", hint="wait until it is mirrored")
        if not self._audience.count:
            raise ControlError("no mirror is connected", hint="wait until it is mirrored")
        try:
            return await asyncio.wait_for(self._audience.reached(version, patient=patient), limit_s)
        except TimeoutError:
            raise ControlError(f"no mirror has reached the last mark within {limit_s:g} s") from None

    async def _tick(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self.event(Tick())

    def _perform(self, effect: FeedEffect) -> None:
        match effect:
            case Send():
                self._audience.send(effect)
            case AskWhole(structure, native):
                if native:
                    self._ask_native(structure)
                else:
                    message = {"kind": "resync", "structure": structure, "version": 0, "state": None}
                    self._program.send({**message, "reason": "a mirror has no copy"})
            case Confirm(structure, version, mirrors):
                if not self.feed.declared[structure].native:
                    message = {"kind": "acknowledged", "structure": structure, "version": version}
                    self._program.send({**message, "mirrors": mirrors})
            case Progress(instance, incarnation, version):
                self._progress(instance, incarnation, version)
            case Drop():
                self._audience.drop(effect)
