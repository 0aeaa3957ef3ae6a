"""An instance as a mirror: whom it follows, what it has of it, and that it begins anew where it must.

The event loop's side of `agent.mirror.follower`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import structlog

from agent.kept_link import Source
from agent.launch.launching import room_for_image_bytes
from agent.mirror.double import make_double
from agent.mirror.follower import Follower
from agent.mirror.staging import Staging
from agent.mirror.subscription import Subscription
from agent.mirror.succession import Succession
from agent.network.service_network import ServiceNetwork
from agent.structures.sampled import independent_names
from agent.surroundings import Surroundings
from agent.tasks import Tasks
from transport.checkpoint import PAGE_BYTES, Header
from transport.control import Mirrored
from transport.counters import Counters
from transport.errors import ControlError, KagemushaError, PreflightError
from transport.session import MirrorSession

log = structlog.get_logger()


class Following:
    """One for each instance. follower: None while it is no mirror.

    alone: held while the instance is changed. failed: told why this mirror can't be used any more.
    """

    def __init__(
        self,
        around: Surroundings,
        name: str,
        incarnation: int,
        counters: Counters,
        network: ServiceNetwork | None,
        *,
        alone: asyncio.Lock,
        prompt: Callable[[], AbstractContextManager[None]],
        failed: Callable[[KagemushaError], None],
    ) -> None:
        self.follower: Follower | None = None
        self._around = around
        self._name = name
        self._incarnation = incarnation
        self._counters = counters
        self._network = network
        self._alone = alone
        self._prompt = prompt
        self._failed = failed
        self._subscription: Subscription | None = None
        self._succession: Succession | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()

    async def follow(self, source: Source, token: int) -> None:
        """Follow this primary, under its token, from what is held; twice is once. Raises KagemushaError."""
        if self._succession is not None and self._succession.is_ready:
            # Another one goes on: what was made ready can't follow any more.
            await self._around.tracer.call(self._succession.abandon)
            if self._network is not None:
                self._network.disarm()
            self.follower = self._succession = None
        former = self._subscription
        if former is not None:
            if self.follower is not None and former.source == source and former.token >= token:
                return
            await former.close()
        around = self._around
        subscription = Subscription(around.tracer, around.tls, self._counters, source, token)
        if self.follower is None:
            self.follower = self._anew(subscription, token)
        else:
            self.follower.redirect(subscription)
        try:
            await subscription.open(self.follower)
        except KagemushaError:
            self.follower = None
            raise
        self._subscription = subscription

    def succeed(self, token: int, known: int) -> Succession:
        """The way of this mirror to become the primary under `token`. known: the highest that the instance knows.

        Raises ControlError: it is no mirror, or the token is not higher.
        """
        follower = self.follower
        if follower is None:
            raise ControlError(f"{self._name} is no mirror")
        if token <= max(known, follower.session.token):
            raise ControlError(f"token {token} is not higher than {max(known, follower.session.token)}")
        if self._succession is None or self._succession.follower is not follower:
            self._succession = Succession(self._name, follower, self._network, self._prompt, self._overtaken)
        return self._succession

    def end(self) -> None:
        """It is the primary now."""
        self._hang_up()
        self.follower = self._succession = self._subscription = None

    async def close(self) -> None:
        """Follow nobody any more; `destroy` ends the shadow."""
        if self._subscription is not None:
            await self._subscription.close()
        await self._tasks.close()

    def destroy(self) -> None:
        """In the tracer thread: end the shadow."""
        if self.follower is not None:
            self.follower.destroy()

    # ---------------------------------------------------------------- inside

    def _anew(self, subscription: Subscription, token: int) -> Follower:
        definition = self._around.definition
        return Follower(
            MirrorSession(definition.program.id, token, self._counters),
            self._name,
            self._incarnation,
            definition.program.id,
            Staging(room_for_image_bytes(definition) // PAGE_BYTES),
            partial(make_double, self._around.spawner, definition),
            subscription,
            self._mirrored,
            self._hopeless,
            independent_names(definition),
        )

    def _mirrored(self, header: Header) -> None:
        """In the tracer thread."""
        held = Mirrored(self._name, self._incarnation, header.version, header.captured_ns)
        self._loop.call_soon_threadsafe(self._around.emit, held)
        if header.final and self._network is not None:
            self._loop.call_soon_threadsafe(self._network.listen)

    def _hopeless(self, error: PreflightError) -> None:
        """In the tracer thread."""
        log.error("this node can't mirror the program", reason=error.what, hint=error.hint)
        self._loop.call_soon_threadsafe(self._give_up, error)

    def _give_up(self, error: PreflightError) -> None:
        self._failed(error)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._subscription is not None:
            self._tasks.start(self._subscription.close())

    def _overtaken(self) -> None:
        """In the tracer thread."""
        self._loop.call_soon_threadsafe(lambda: self._tasks.start(self._begin_anew()))

    async def _begin_anew(self) -> None:
        """It was made ready, and its primary serves on."""
        async with self._alone:
            former, succession = self._subscription, self._succession
            if former is None or succession is None or not succession.is_ready:
                return
            log.warning("the primary serves on: its mirror, which was ready to take over, begins anew")
            try:
                await self.follow(former.source, former.token)
            except KagemushaError as error:
                self._failed(error)
