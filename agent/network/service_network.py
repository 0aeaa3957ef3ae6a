"""A program's address on this node with all that goes with it: claims and drops, stragglers, probes, announcements.

Everything is opened ahead in the node's network namespace. A program without an address has none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Container, Iterable
from pathlib import Path

import structlog

from agent.errors import KernelError
from agent.kernel.nftables import BarrierSocket
from agent.network.address import ServiceAddress
from agent.network.announcer import Announcer
from agent.network.connections import Connection, Expected
from agent.network.prober import Outcome, Prober
from agent.network.reminder import Reminder
from agent.network.stragglers import Stragglers
from agent.redirect import Redirect
from transport.track_file import TrackFile

log = structlog.get_logger()

LISTEN_S = 5.0
"""After a primary's last checkpoint: by then it is decided who goes on."""
STRAGGLERS_S = 2.0
"""So long after an address was dropped are frames sent on to its new node: clients have heard of it by then."""
_POKES_MAX = 64
"""So many, the newest, in the middle of a takeover: a millisecond; whoever is left is poked when it is over."""


class ServiceNetwork:
    """The network side of one instance. `silence`, `drop` and `claim` belong to the tracer thread, the rest to the
    event loop."""

    def __init__(self, instance: str, redirect: Redirect, track: Path, loop: asyncio.AbstractEventLoop) -> None:
        """track: where keepalived looks whether it may have the address, if that is how clients are led here.

        Raises ConfigError, KernelError: no such interface. BarrierError: no nftables.
        """
        self._instance = instance
        self._interface = redirect.interface
        self._addresses = [redirect.ip]
        self._loop = loop
        self.address = ServiceAddress([redirect.address], redirect.interface)
        self._reminder = Reminder(ServiceAddress([redirect.address], redirect.interface))
        self._track = TrackFile(track) if redirect.driver == "keepalived" else None
        self._barrier = BarrierSocket()
        self._barrier.barriers.stage(instance, redirect.ip)
        self._stragglers: Stragglers | None = None
        self._announcer: Announcer | None = None
        self._prober: Prober | None = None
        self._end_of_listening: asyncio.TimerHandle | None = None
        self._is_silent = False

    def silence(self) -> None:
        """Let nothing more be said or heard in the name of the address here; what clients still send here is kept for
        the node that has it next. `drop` must follow."""
        if self._stragglers is None and self.address.is_here():
            self._stragglers = stragglers = Stragglers(self.address.link, self._addresses)
            stragglers.begin()
            self._loop.call_soon_threadsafe(self._watch, stragglers)
        for address in self._addresses:
            self._barrier.barriers.put(self._instance, address)
        self._is_silent = True

    def drop(self) -> None:
        """Take the address off this node, on which it is silent then."""
        if not self._is_silent:
            self.silence()
        self._is_silent = False
        if self._track is not None:
            # Before the address goes: keepalived would put it back within milliseconds.
            self._track.forbid()
        self.address.drop()

    def clear(self) -> None:
        """Take away what keeps the address silent on this node, which is to serve."""
        for address in self._addresses:
            self._barrier.barriers.lift(self._instance, address)

    def claim(self) -> None:
        """Put the address onto this node."""
        self.clear()
        self.address.claim()

    def listen(self) -> None:
        """A takeover is near: end what is left of a former life here, and hear what the clients say from now on, until
        `settle`, or for LISTEN_S if nothing comes of it. In the event loop."""
        if self._prober is not None:
            return
        prober = self._prober = Prober(self._addresses, self._interface)
        if not self.address.is_here():
            try:
                if ended := prober.end_former():
                    log.info("connections of a former life here are ended", connections=ended)
            except KernelError as error:
                log.warning("connections of a former life here can't be ended", reason=error.what)
        prober.arm()
        self._end_of_listening = self._loop.call_later(LISTEN_S, self._stop_listening)

    def arm(self) -> None:
        """Before connections are made again here: listen until `settle` or `disarm`, however long that takes. What
        then ended former ones would end them, too. In the event loop."""
        self.listen()
        if self._end_of_listening is not None:
            self._end_of_listening.cancel()

    def disarm(self) -> None:
        """Nothing comes of the takeover. In the event loop."""
        if self._end_of_listening is not None:
            self._end_of_listening.cancel()
        self._stop_listening()

    def _stop_listening(self) -> None:
        prober, self._prober = self._prober, None
        if prober is not None:
            prober.close()

    def poke(self, opened: Iterable[Connection], going_on: Container[Connection]) -> None:
        """After `arm`, with the address claimed and announced: of the `opened` connections those that do not go on are
        of the primary's last moments, and their clients are to learn that at once. In the tracer thread."""
        if self._prober is not None:
            self._prober.poke([one for one in opened if one not in going_on][-_POKES_MAX:])

    async def settle(
        self,
        restored: Collection[Expected],
        opened: Iterable[Connection],
        *,
        exact: bool,
        outage_ms: float,
        guesses: Iterable[Connection] = (),
    ) -> Outcome:
        """After a takeover: find out which connections go on and reset the others; takes some seconds at most."""
        prober, self._prober = self._prober, None
        if prober is None:
            prober = Prober(self._addresses, self._interface)
        try:
            prober.begin(restored, opened, exact=exact, outage_ms=outage_ms, guesses=guesses)
            return await prober.run()
        finally:
            prober.close()

    def announce_connections(self, announce: Callable[[tuple[Connection, ...], tuple[Connection, ...]], None]) -> None:
        """The program serves here: tell `announce` from now on which connections clients open and close, and the
        neighbours again and again where it is. In the event loop."""
        self._reminder.start()
        if self._announcer is None:
            self._announcer = Announcer(self._addresses, self._interface, announce)
            self._announcer.start()

    def close(self) -> None:
        """Close all sockets; the address stays as it is. In the event loop."""
        self._forget_stragglers()
        self._reminder.close()
        if self._announcer is not None:
            self._announcer.close()
        if self._prober is not None:
            self._prober.close()
        self.address.close()
        self._barrier.close()

    def _watch(self, stragglers: Stragglers) -> None:
        for descriptor in stragglers.filenos():
            self._loop.add_reader(descriptor, stragglers.pump)
        stragglers.pump()

    def end_stragglers_soon(self) -> None:
        """The address has been claimed elsewhere: frames are sent on for a little longer. In the event loop."""
        self._loop.call_later(STRAGGLERS_S, self._forget_stragglers)

    def _forget_stragglers(self) -> None:
        stragglers, self._stragglers = self._stragglers, None
        if stragglers is not None:
            for descriptor in stragglers.filenos():
                self._loop.remove_reader(descriptor)
            stragglers.close()
            if stragglers.sent_on or stragglers.dropped:
                log.info("frames sent on to the new node", frames=stragglers.sent_on, dropped=stragglers.dropped)
