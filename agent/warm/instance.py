"""One warm instance, as its controller sees it: started in its role, promoted, demoted, ended. In the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from agent.controlled import Controlled
from agent.kept_link import Source
from agent.launch.launching import output_path
from agent.network.connections import Connection
from agent.structures.update import Update
from agent.surroundings import Surroundings
from agent.warm.audience import Audience
from agent.warm.feed import Feed
from agent.warm.following import Following
from agent.warm.live_program import how_it_ended
from agent.warm.offering import Offering
from agent.warm.patience import Patience
from agent.warm.said import Said
from agent.warm.subscription import Subscription
from agent.warm.warm_program import WarmProgram
from transport.checkpoint import NOTHING, Version
from transport.control import Activated, Exited, Failed, Held, Mirrored, Ok, Reply, Role, Settled
from transport.errors import ControlError, KagemushaError
from transport.messages import Announce
from transport.structure_messages import Mark

log = structlog.get_logger()

LAST_MARK_S: Final = 2.0
"""How long a mirror may take to reach the last mark of a program."""
SILENCE_S: Final = 0.5
EMIT_S: Final = 0.01
"""How rarely a mirror tells its controller of its progress."""


class WarmInstance(Controlled):
    """Mirrors named structures of a program that lives on every node."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.audience = Audience()
        self.role: Role = "mirror"
        self.offering: Offering | None = None
        self.following: Following | None = None
        self.fault = self.trouble = ""
        self.status: int | None = None
        self.held = False
        self.captured_ns = 0
        self._emitted_s = float("-inf")
        self.program = WarmProgram(around, self.name, self._heard, self._ended, self._captured, self._own_role)
        self._patience = Patience()
        self._is_ending = False

    async def close(self) -> None:
        """End the mirroring; a primary's program runs on, a mirror's ends."""
        self._is_ending = True
        if self.following is not None and self.following.subscription is not None:
            await self.following.subscription.close()
        if self.offering is not None:
            self.offering.close()
        await self._tasks.close()
        if self.role == "mirror":
            await self.program.end()
        await self.program.leave()
        if self._network is not None:
            self._network.close()

    # ------------------------------------------------------------ primary

    async def _launch(self, token: int) -> Reply:
        if self.role == "primary" and self.token == token:
            return Ok()
        self._require_none()
        self.token, self.role = token, "primary"
        # Before it runs: it says what it has as soon as it does.
        self._offer(Feed(self.definition.program.id, token))
        try:
            await self.program.start("primary")
            await self._claim()
        except KagemushaError:
            self._is_ending = True
            await self.program.end()
            self._give_up()
            raise
        self._tasks.start(self._offer_native())
        log.info("the program runs", pid=self.program.pid, token=token)
        return Ok()

    async def _adopt(self, pid: int, start_ticks: int, token: int) -> Reply:
        if self.role == "primary" and self.token == token:
            return Ok()
        self._require_none()
        self.token, self.role = token, "primary"
        self._offer(Feed(self.definition.program.id, token))
        try:
            await self.program.find(pid, start_ticks)
        except KagemushaError:
            self._give_up()
            raise
        if self._network is not None:
            self._network.announce_connections(self._announce)
        self._tasks.start(self._offer_native(anew=True))
        log.info("the program is watched again", pid=pid, token=token)
        return Ok()

    def _give_up(self) -> None:
        self.role, self.token, self._is_ending = "mirror", 0, False
        if self.offering is not None:
            self.offering.close()
            self.offering = None

    def _offer(self, feed: Feed) -> None:
        interval_s = self.definition.mirror.interval_ms / 1000
        self.offering = Offering(feed, self.audience, self.program.socket, interval_s, self._progressed, self._ask)
        for one in self.program.declared.values():
            self.offering.declare(one)

    async def _offer_native(self, *, anew: bool = False) -> None:
        native = self.program.native
        if native is None:
            return
        try:
            await native.find(self.program.refuse)
            if self.offering is not None:
                await self.offering.capture(native, self.token, anew=anew)
        except KagemushaError as error:
            self.trouble = f"native structures are not mirrored: {error.what}"
            log.error(self.trouble, hint=error.hint)

    def _ask(self, structure: str) -> None:
        if self.program.native is not None:
            self.program.native.ask_whole(structure, self._copied)

    def _copied(self, updates: list[Update]) -> None:
        if self.offering is not None:
            self.offering.copied(updates)

    def _captured(self, updates: list[Update], at_ns: int) -> None:
        if self.offering is not None:
            self.offering.captured(updates, at_ns)

    async def _claim(self) -> None:
        network = self._network
        if network is not None:
            await self.around.tracer.call(network.claim)
            network.announce_connections(self._announce)

    def _announce(self, opened: tuple[Connection, ...], closed: tuple[Connection, ...]) -> None:
        if self.offering is not None:
            self.offering.announce(Announce(opened, closed))

    async def _drop(self) -> None:
        if self._network is not None:
            await self.around.tracer.call(self._network.drop)

    async def _tell_end(self, status: int) -> None:
        """The primary's program has ended: all that it said goes to a mirror, and then the controller hears of it."""
        ended_s = time.monotonic()
        await self.program.socket.silence(SILENCE_S)
        await self._drop()
        final: Version | None = None
        holders: tuple[str, ...] = ()
        reason = ""
        if self.offering is not None:
            version = self.offering.finish()
            try:
                holders = await self.offering.held_by(version, LAST_MARK_S)
                final = version
            except ControlError as error:
                reason = error.what
        took_us = round((time.monotonic() - ended_s) * 1e6)
        self.around.emit(Exited(status, final, True, False, reason, took_us=took_us, holders=holders))

    async def _switch(self) -> Reply:
        offering = self._serving()
        if not self.held:
            if not any(one.counts for one in offering.feed.subscribers):
                raise ControlError(f"no mirror of {self.name} is in step", hint="wait until it is mirrored")
            if not self.program.socket.is_welcome and any(not one.native for one in offering.feed.declared.values()):
                raise ControlError(
                    f"the program of {self.name} is not connected", hint="what it changed last is not known"
                )
            if not await self.program.become("mirror", self.token):
                await self.program.become("primary", self.token)
                raise ControlError(f"the program of {self.name} takes too long to become a mirror")
            await self._drop()
            await self.program.stand()
            self.held = True
        version = offering.finish()
        try:
            holders = await offering.held_by(version, LAST_MARK_S, patient=True)
        except ControlError:
            await self._resume(self.token)
            raise
        return Held(version, holders)

    async def _fence(self) -> Reply:
        self._serving()
        await self._drop()
        if not await self.program.stand():
            await self.program.go_on()  # Nor shall it come to a stop when nobody counts on it any more.
            raise ControlError(f"the program of {self.name} does not stand still", hint="is it waiting for a disk?")
        return Ok()

    async def _resume(self, token: int) -> Reply:
        offering = self._serving()
        if token != self.token:
            raise ControlError(f"token {token} is not that of {self.name}, {self.token}")
        await self.program.go_on()
        if self.held:
            self.held = False
            offering.feed.marks.reopen()
            if not await self.program.become("primary", token):
                log.warning("the program takes long to serve again", instance=self.name)
        await self._claim()
        return Ok()

    async def _release(self) -> Reply:
        if self.role != "primary":
            raise ControlError(f"{self.name} is no primary", hint="ask the primary's agent")
        self._is_ending = True
        await self.program.end()
        if self._network is not None:
            self._network.end_stragglers_soon()
        return Ok()

    async def _terminate(self, grace_ms: int) -> Reply:
        await self.program.terminate(grace_ms / 1000)
        return Ok()

    def _serving(self) -> Offering:
        if self.role != "primary" or self.offering is None:
            raise ControlError(f"{self.name} is no primary", hint="ask the primary's agent")
        self._require_life()
        return self.offering

    # ------------------------------------------------------------ mirror

    async def _follow(self, source: Source, token: int) -> Reply:
        if self.role == "primary":
            raise ControlError(f"{self.name} is the primary", hint="end it, or start another agent")
        if self.following is not None and (former := self.following.subscription) is not None:
            if former.source == source and former.token >= token:
                return Ok()
            self.following.subscription = None
            await former.close()
        if self.following is None:
            names = (self.definition.program.id, self.name, self.incarnation)
            self.following = Following(*names, self.program, self._reached)
        following = self.following
        subscription = Subscription(self.around.tls, self.counters, source, token, lambda: self.token, following)
        self.token = max(self.token, token)
        if not self.program.pid:
            await self._start_mirror()
        following.subscription = subscription
        try:
            await subscription.open()
        except KagemushaError:
            following.subscription = None
            raise
        return Ok()

    async def _get_ready(self, token: int, version: Version | None) -> Reply:
        return Ok()  # A program that lives is ready.

    async def _start_mirror(self) -> None:
        await self.program.start("mirror")
        if self.following is not None:
            self._tasks.start(self.following.receive_native())

    def _reached(self, mark: Mark) -> None:
        self.captured_ns = mark.captured_ns
        self.trouble = ""
        now_s = time.monotonic()
        if mark.final or now_s - self._emitted_s >= EMIT_S:
            # There is a mark behind each update, and another one at the end of the interval.
            self._emitted_s = now_s
            self.around.emit(Mirrored(self.name, self.incarnation, mark.version, mark.captured_ns))
        if mark.final and self._network is not None:
            self._network.listen()

    async def _activate(self, token: int, version: Version | None) -> Reply:
        if self.role == "primary" and self.token == token:
            return Ok()
        if self.role == "primary" and self.held and token > self.token:
            return await self._take_back(token)
        following = self.following
        if following is None:
            raise ControlError(f"{self.name} is no mirror")
        if token <= self.token:
            raise ControlError(f"token {token} is not higher than {self.token}")
        held = following.intake.version
        if held == NOTHING:
            raise ControlError(f"{self.name} holds not every structure yet", hint="wait until it is mirrored")
        if version is not None and not held.is_or_follows(version):
            raise ControlError(f"{self.name} holds {held}, not {version}")
        if self._network is not None:
            self._network.arm()
        try:
            timeline = await self._promote(following, token, held)
        except KagemushaError as error:
            self.fault = error.what
            self.around.emit(Failed(error.what, error.hint))
            raise
        self.around.emit(Activated(token, held, tuple(timeline.items())))
        log.info("the program serves here", token=token, version=str(held), timeline=timeline)
        self._tasks.start(self._settle(following))
        return Ok()

    async def _promote(self, following: Following, token: int, held: Version) -> dict[str, int]:
        """Role and address; gives the time line. What the primary sent last stands before the new role in the program's
        stream, so all of it is applied first."""
        begun_s = time.monotonic()
        subscription, following.subscription = following.subscription, None
        if subscription is not None:
            await subscription.close()
        self.token, self.role, self.following = token, "primary", None
        self._offer(Feed(self.definition.program.id, token, held.number))
        self._require_life()
        applied_s = time.monotonic()
        if not await self.program.become("primary", token):
            log.warning("the program takes long to serve", instance=self.name)
        promoted_s = time.monotonic()
        await self._claim()
        self._require_life()
        claimed_s = time.monotonic()
        native = self.program.native
        if native is not None and self.offering is not None:
            await self.offering.capture(native, token)
        steps = {"stream": applied_s - begun_s, "promotion": promoted_s - applied_s, "address": claimed_s - promoted_s}
        return {name: round(seconds * 1e6) for name, seconds in steps.items()}

    async def _take_back(self, token: int) -> Reply:
        """The one that was to go on did not: the held original does, under a token of its own."""
        offering = self._serving()
        offering.close()
        self.token = token
        self._offer(Feed(self.definition.program.id, token, offering.feed.version.number))
        log.info("the held program is taken back", token=token)
        reply = await self._resume(token)
        native = self.program.native
        if native is not None and self.offering is not None:
            await self.offering.capture(native, token, anew=True)
        return reply

    async def _settle(self, following: Following) -> None:
        """None of the former primary's connections goes on: their clients are told, so that none waits for ever."""
        if self._network is None:
            return
        outage_ms = max(time.time_ns() - self.captured_ns, 0) / 1e6
        guesses = following.clients.newcomers.guesses(time.monotonic() * 1000)
        opened = list(following.clients.opened)
        outcome = await self._network.settle([], opened, exact=False, outage_ms=outage_ms, guesses=guesses)
        log.info("connections after the takeover", outcome=str(outcome))
        self.around.emit(Settled(outcome.survived, outcome.reset + outcome.poked))

    # ------------------------------------------------------------ the program

    def _heard(self, said: Said) -> None:
        if self.role == "primary" and self.offering is not None:
            self.offering.heard(said)
        elif self.following is not None:
            self.following.heard(said)

    def _own_role(self) -> tuple[Role, int]:
        return "mirror" if self.held else self.role, self.token

    def _ended(self, status: int) -> None:
        if self._is_ending:
            return
        self.status = status
        log.info("the program has ended", role=self.role, how=how_it_ended(status))
        if self.role == "primary":
            self._tasks.start(self._tell_end(status))
            return
        if self.following is not None:
            self.following.emptied()
        wait_s = self._patience.next_s(time.monotonic())
        self.trouble = f"the program of this mirror ended, {how_it_ended(status)}; it is started again in {wait_s:g} s"
        log.warning(self.trouble, output=str(output_path(self.around.directory, self.definition)))
        self._tasks.start(self._again(wait_s))

    async def _again(self, wait_s: float) -> None:
        """A mirror's program is started again, later and later while it does not stay."""
        await self.program.forget_native()
        while True:
            await asyncio.sleep(wait_s)
            async with self._lock:
                if self.role == "primary" or self.program.pid or self.following is None:
                    return
                try:
                    await self._start_mirror()
                    return
                except KagemushaError as error:
                    wait_s = self._patience.next_s(time.monotonic())
                    self.trouble = f"the program of this mirror can't be started: {error.what}; again in {wait_s:g} s"
                    log.warning(self.trouble, hint=error.hint)

    # ------------------------------------------------------------ small things

    def _require_none(self) -> None:
        if self.role == "primary" or self.following is not None:
            raise ControlError(f"{self.name} is {self.role} already", hint="use another agent, or end this one")

    def _require_life(self) -> None:
        if not self.program.pid:
            raise ControlError(f"the program of {self.name} has ended")

    def _progressed(self, instance: str, incarnation: int, version: Version) -> None:
        self.around.emit(Mirrored(instance, incarnation, version))
