"""A mirror's way to become the primary: made ready as soon as it is to be, and let go on when it may serve.

Belongs to the tracer thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import structlog

from agent.mirror import takeover
from agent.mirror.double import ShadowDouble
from agent.mirror.follower import Follower
from agent.mirror.shadow import Shadow
from agent.mirror.takeover import Readied, Takeover
from agent.network.service_network import ServiceNetwork
from transport.checkpoint import NOTHING, Header, Version
from transport.errors import ControlError, KagemushaError

log = structlog.get_logger()


class Succession:
    """One for each follower. name: of the instance, for what it refuses. prompt: see `agent.tracing.prompt`. overtaken:
    called when it is ready at its primary's very last checkpoint, and that primary sends another one: it serves on."""

    def __init__(
        self,
        name: str,
        follower: Follower,
        network: ServiceNetwork | None,
        prompt: Callable[[], AbstractContextManager[None]],
        overtaken: Callable[[], None],
    ) -> None:
        self.follower = follower
        self._name = name
        self._network = network
        self._prompt = prompt
        self._overtaken = overtaken
        self._readied: Readied | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the shadow has been made ready: no checkpoint can be applied to it any more."""
        return self._readied is not None

    def make_ready(self, version: Version | None) -> None:
        """Make the shadow ready to go on from `version`, or a later one; None: from what it holds. Twice is once.

        Raises ControlError when it does not hold that; it is as before then. RestoreError, KernelError, TraceeGone:
        the shadow is destroyed.
        """
        with self._prompt():
            self._make_ready(version)

    def go_on(self, version: Version | None) -> tuple[Takeover, Shadow, Header]:
        """Let it go on as the program; gives the checkpoint, too, that it goes on from. Raises as `make_ready`."""
        with self._prompt():
            header, double, readied = self._make_ready(version)
            self._readied = None
            network, opened = self._network, self.follower.held.opened
            address, tell = (network.address, partial(network.poke, opened)) if network is not None else (None, None)
            try:
                return takeover.go_on(readied, address, announced=tell), readied.shadow, header
            except KagemushaError:
                double.destroy()
                raise

    def abandon(self) -> None:
        """Another one goes on: a shadow that was made ready is of no use any more."""
        readied, self._readied = self._readied, None
        if readied is not None:
            readied.abandon()
            self.follower.destroy()

    def _make_ready(self, version: Version | None) -> tuple[Header, ShadowDouble, Readied]:
        header, double = self._held(version)
        if self._readied is None:
            self.follower.retire(self._overtaken if header.final else None)
            try:
                for one in self.follower.settle():
                    age_ms = (one.captured_ns - header.captured_ns) / 1e6
                    log.info("a structure is newer than the checkpoint", structure=one.structure, newer_ms=age_ms)
                records = self.follower.held.records
                self._readied = takeover.make_ready(double.shadow, records, exact=header.final)
            except KagemushaError:
                double.destroy()
                raise
        return header, double, self._readied

    def _held(self, version: Version | None) -> tuple[Header, ShadowDouble]:
        follower = self.follower
        held, header, double = follower.version, follower.held.header, follower.double
        if held == NOTHING or header is None or not isinstance(double, ShadowDouble):
            raise ControlError(f"{self._name} holds no complete checkpoint", hint="wait until it is mirrored")
        if version is not None and not held.is_or_follows(version):
            raise ControlError(f"{self._name} holds checkpoint {held}, not {version}")
        return header, double
