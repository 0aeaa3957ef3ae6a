"""The clients of one instance: led to this node while it serves here, and only then."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from ipaddress import ip_interface
from typing import Any, Final

import psutil
import structlog

from cluster.agents.place import Place
from cluster.agents.tenure import Tenure
from cluster.config import NodeConfig, host_and_port
from cluster.fencing.addresses import has_address
from cluster.fencing.netlink import Netlink
from cluster.node.program import ProgramFile
from cluster.redirect.exec import require_trusted
from cluster.redirect.guide import Guide
from cluster.redirect.keepalived_host import KeepalivedHost
from cluster.redirect.make import make_driver
from cluster.redirect.probe import WAIT_S, AddressInUse, Probe, has_one_of, probing
from cluster.redirect.redirection import Redirection
from transport.barrier import Barriers
from transport.errors import KagemushaError
from transport.nftables import NETLINK_NETFILTER

log = structlog.get_logger()

_OF_ROOT: Final = ("address", "keepalived")
NO_WAIT_S: Final = 0.0
AHEAD_S: Final = 1.0


class Clients:
    """One for each instance. file: reads the program's file. may_serve, changed: see `Guide`. taken: who had the
    address when the program was to go on here, "" for nobody."""

    def __init__(
        self,
        place: Place,
        file: Callable[[], ProgramFile],
        may_serve: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self._place = place
        self._file = file
        self._may_serve = may_serve
        self._changed = changed
        self._keepalived = keepalived_of(place.config)
        self._said = Redirection()
        self._guide: Guide | None = None
        self.unready = self.taken = ""
        self._ahead_s = float("-inf")

    def look_ahead(self) -> None:
        """See what would be in the way of its clients if a mirror here were to serve now: `unready`, "" for nothing.

        It may be called often, and looks once a second.
        """
        now_s = time.monotonic()
        if now_s - self._ahead_s < AHEAD_S:
            return
        self._ahead_s = now_s
        try:
            said = self._file().redirection
        except KagemushaError as error:
            self.unready = error.what
            return
        self.unready = _interface_trouble(said.interface)
        if said.driver == "keepalived":
            self.unready = self.unready or self._keepalived.absence(self._place.program, said)

    @property
    def wants_keepalived(self) -> bool:
        """Whether keepalived is to carry its address."""
        return self._said.driver == "keepalived"

    @property
    def trouble(self) -> str:
        """Why clients are not led here as they should be, or ""."""
        return self._guide.trouble if self._guide is not None else ""

    def has_address(self) -> bool | None:
        """Whether the program's address is on this node now; None: it has none, or that can't be said."""
        try:
            address = self._file().redirection.address
            return has_address(address) if address else None
        except KagemushaError:
            return None

    async def prepare(self) -> None:
        """Before the program serves here, or is mirrored: have ready whatever it may take. What fails is said."""
        try:
            said = await self._read()
            if said.driver == "keepalived":
                await self._keepalived.install(self._place.program, said, self._place.track)
        except KagemushaError as error:
            log.error("redirect is not prepared", instance=self._place.instance, reason=error.what, hint=error.hint)

    async def arrive(self, meanwhile: Coroutine[Any, Any, None], *, patient: bool) -> None:
        """Ask whether somebody else has the address while something else is waited for.

        patient: wait for an answer, too, as there is time: the program is started, and continues nothing. Raises
        AddressInUse, and what the other raises.
        """
        said = await self._read()
        if patient:
            await self.prepare()
        if not said.address:
            await meanwhile
            return
        async with contextlib.AsyncExitStack() as stack:
            try:
                probe = await stack.enter_async_context(probing(said.address, said.interface))
            except BaseException:
                meanwhile.close()
                raise
            await meanwhile
            if patient:
                await probe.judge(WAIT_S)
            else:
                await self._judge(probe, said.interface, NO_WAIT_S)

    async def see_free(self) -> None:
        """Before the program is to go on here: where somebody had the address the last time, that must have ended.
        Raises AddressInUse."""
        if self.taken:
            said = await self._read()
            async with probing(said.address, said.interface) as probe:
                await self._judge(probe, said.interface, WAIT_S)

    async def _judge(self, probe: Probe, interface: str, wait_s: float) -> None:
        """Another node of the cluster may still answer: all that served there has ended or is fenced, but its kernel
        lives on."""
        self.taken = ""
        try:
            await probe.judge(wait_s)
        except AddressInUse as error:
            nodes = [host_and_port(one.address)[0] for one in self._place.config.others]
            if not await has_one_of(probe.found.result(), nodes, interface):
                self.taken = error.what
                raise
            log.warning("another node has the address, and serves no more", reason=error.what)

    async def claim(self, token: int) -> None:
        """The program serves here under this token: lead its clients here, and see that it stays so."""
        await self._read()
        if self._guide is not None:
            await self._guide.claim(token)

    async def lead_back(self, token: int, tenure: Tenure) -> None:
        """The watchdog has cut them off, and there is a lease again, but no agent that would let the address speak:
        nobody holds the program, so they do not wait for the next one. Raises KagemushaError."""
        returns = await tenure.thawed()
        if not self._may_serve():
            return
        said = await self._read()
        if said.address:
            lift_barrier(self._place.instance, said.address)
        await self.claim(token)
        tenure.led_back(returns)

    @asynccontextmanager
    async def leaving(self, token: int) -> AsyncIterator[None]:
        """It comes to a stop within the block, whose end its clients are led away at; after an error they are led here
        again."""
        guide = self._guide
        if guide is None:
            yield
            return
        guide.pause()
        try:
            yield
        except KagemushaError:
            await guide.claim(token)
            raise
        await guide.release(token)

    def let_go(self, token: int) -> None:
        """It serves here no more."""
        if self._guide is not None:
            self._guide.release_soon(token)

    async def forget(self) -> None:
        """The program is no more: leave nothing of it in keepalived, nftables and beside the socket."""
        await self.close()
        await self._keepalived.remove(self._place.program)
        self._place.track.unlink(missing_ok=True)
        try:
            remove_barrier(self._place.instance)
        except KagemushaError as error:
            log.warning("not removed", instance=self._place.instance, reason=error.what)

    async def close(self) -> None:
        """Leave everything as it is."""
        guide, self._guide = self._guide, None
        self._said = Redirection()
        if guide is not None:
            await guide.close()

    async def _read(self) -> Redirection:
        """What the file says now; the guide is of that. Raises KagemushaError."""
        said = self._file().redirection
        if said != self._said:
            await self.close()
            place = self._place
            driver = make_driver(place.program, place.config.node.id, said, place.track)
            if driver is not None:
                self._guide = Guide(place.program, driver, self._may_serve, self._look, self._changed)
            self._said = said
        return said

    def _look(self) -> str:
        if self._said.driver == "keepalived":
            return self._keepalived.trouble(self._place.program, self._said)
        return ""


def keepalived_of(config: NodeConfig) -> KeepalivedHost:
    """The keepalived of a node."""
    own = host_and_port(config.own.address)[0]
    peers = [host_and_port(one.address)[0] for one in config.others]
    return KeepalivedHost(config.keepalived, config.node.run, own, peers)


async def obstacles(config: NodeConfig, file: ProgramFile, *, known: bool) -> tuple[tuple[str, str], ...]:
    """What keeps clients from being led to this node, each as what and remedy.

    known: there is an instance of the program here already, so its address may well be in use.
    """
    said, found = file.redirection, []
    if said.driver in _OF_ROOT and os.geteuid() != 0:
        what = f"redirect.driver {said.driver} takes root, and this node runs as user {os.geteuid()}"
        return ((what, 'set driver = "proxy", or run the node as root'),)
    try:
        if said.driver == "keepalived":
            await keepalived_of(config).check(file.program, said)
        for command in filter(None, (said.claim, said.release, said.check)):
            require_trusted(command[0], f"redirect: {command[0]}")
        if said.address and not known:
            async with probing(said.address, said.interface) as probe:
                await probe.judge(WAIT_S)
    except KagemushaError as error:
        found.append((error.what, error.hint))
    return tuple(found)


def _interface_trouble(name: str) -> str:
    """Why this interface can't carry an address, "" where it can, or none is named."""
    if not name:
        return ""
    found = psutil.net_if_stats().get(name)
    if found is None:
        return f"there is no interface {name}"
    return "" if found.isup else f"interface {name} is down"


def lift_barrier(instance: str, address: str) -> None:
    """Let the address speak again. Raises KagemushaError."""
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        Barriers(netlink.exchange).lift(instance, ip_interface(address).ip)
    finally:
        netlink.close()


def remove_barrier(instance: str) -> None:
    """Take away the barrier of an instance. Raises KagemushaError."""
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        Barriers(netlink.exchange).remove(instance)
    finally:
        netlink.close()


def remove_forgotten_barriers(node: str, instances: set[str]) -> None:
    """Take away those of this node's instances that there are no more. Raises KagemushaError."""
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        barriers = Barriers(netlink.exchange)
        for instance in barriers.instances() - instances:
            if instance.endswith(f"@{node}"):
                log.info("a barrier is left of an instance that is no more", instance=instance)
                barriers.remove(instance)
    finally:
        netlink.close()
