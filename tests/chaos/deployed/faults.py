"""Harm that needs nothing but SSH on a node, or the API. What does not heal by itself undoes itself after a time on the
node, whatever becomes of SSH."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import ClassVar, Final

from tests.chaos.deployed.remote import RemoteError
from tests.chaos.deployed.site import Site
from tests.chaos.faults.all import FAULTS
from tests.chaos.plan import Target
from tests.chaos.stage import Harm

UNDO_S: Final = 30
"""After so long everything is undone on the node itself."""
_GONE_S: Final = 5.0
_BOOT_S: Final = 240.0
_LOOK_AGAIN_S: Final = 0.5
_HOURS_S: Final = 5 * 3600


class SiteHarm(Harm):
    """needs: what a node must have for it (see `node.sh`, probe). driver: what must carry the address; "": any.

    Where it may strike, what it may cost and which driver it needs is told once for a kind, by the fault of a scene.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    driver: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        fault = FAULTS.get(cls.__dict__.get("kind", ""))
        if fault is not None:
            cls.targets, cls.loses, cls.driver = fault.targets, fault.loses, fault.driver

    def __init__(self, site: Site, node: str, chance: random.Random) -> None:
        self.site = site
        self.node = node
        self.chance = chance
        self.id = site.new_id()

    def words(self) -> Sequence[str]:
        """What is done on the node: `node.sh` and its arguments; nothing: it goes through the API."""
        return ()

    async def begin(self) -> None:
        """See `Harm`."""
        self.said = await self.do(*self.words())

    async def do(self, *words: str) -> list[str]:
        """On the node. Raises RemoteError."""
        return await self.site.remotes[self.node].do(*words)


class _Killed(SiteHarm):
    """SIGKILL to all processes of a role; systemd, the daemon or the agent start them again."""

    role: ClassVar[str]

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("kill", self.role)

    async def effect(self) -> str:
        """See `Harm`."""
        end_s = time.monotonic() + _GONE_S
        while self.said and time.monotonic() < end_s:
            if set(await self.do("state", *self.said)) <= {"X", "Z"}:
                return f"processes {' '.join(self.said)}, the {self.role} of node {self.node}, are gone"
            await asyncio.sleep(_LOOK_AGAIN_S)
        return ""


class AgentKilled(_Killed):
    """The agents of a node."""

    kind = "agent-killed"
    role = "agent"


class DaemonKilled(_Killed):
    """A daemon."""

    kind = "daemon-killed"
    role = "daemon"


class WatchdogKilled(_Killed):
    """The watchdog of a node."""

    kind = "watchdog-killed"
    role = "watchdog"


class KeepalivedKilled(_Killed):
    """All of keepalived."""

    kind = "keepalived-killed"
    role = "keepalived"


class _InstanceKilled(_Killed):
    """The process of the program's instance there."""

    role = "program"
    pid = "PID"

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("kill-pid", self.pid)

    async def begin(self) -> None:
        """See `Harm`."""
        self.pid = str(await self.site.pid_of_program(self.node))
        await super().begin()


class ProgramKilled(_InstanceKilled):
    """The program itself."""

    kind = "program-killed"


class ShadowKilled(_InstanceKilled):
    """The frozen process of a mirror."""

    kind = "shadow-killed"


class DaemonRestarted(_Killed):
    """A daemon is ended in order, and started again."""

    kind = "daemon-restarted"
    role = "daemon"

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("terminate", self.role)


class _Undone(SiteHarm):
    """What has to be undone."""

    async def heal(self) -> None:
        """See `Harm`."""
        await self.do("undo", self.id)


class _Stopped(_Undone):
    """SIGSTOP, and SIGCONT."""

    role: ClassVar[str]

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("stop", self.id, str(UNDO_S), self.role)

    async def effect(self) -> str:
        """See `Harm`."""
        states = set(await self.do("state", *self.said)) if self.said else {""}
        # Whoever does nothing may be killed for it (WatchdogSec of its unit), and started again.
        end = "stand still" if states <= {"T", "t"} else "stood still and were killed for it"
        stopped = states <= {"T", "t", "X", "Z"}
        return f"processes {' '.join(self.said)}, the {self.role} of node {self.node}, {end}" if stopped else ""


class DaemonStopped(_Stopped):
    """A daemon that hangs."""

    kind = "daemon-stopped"
    role = "daemon"


class AgentStopped(_Stopped):
    """Agents that hang."""

    kind = "agent-stopped"
    role = "agent"


class WatchdogStopped(_Stopped):
    """A watchdog that hangs."""

    kind = "watchdog-stopped"
    role = "watchdog"


class KeepalivedStopped(_Stopped):
    """keepalived hangs."""

    kind = "keepalived-stopped"
    role = "keepalived"


class _Divided(_Undone):
    """Rules of nftables on the node itself drop what comes and goes; the operator's SSH is let through."""

    needs = ("nft",)

    def rules(self) -> tuple[str, str]:
        """For what comes, and for what goes."""
        return f"{self.source} counter drop", f"{self.target} counter drop"

    source: str = ""
    target: str = ""

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("cut", self.id, str(UNDO_S), *self.rules())

    async def effect(self) -> str:
        """See `Harm`."""
        [count] = await self.do("taken", self.id)
        return f"{count} packets of node {self.node} were dropped" if int(count) else ""

    def at(self, side: str, names: Sequence[str]) -> str:
        """A match of packets from ("saddr") or to ("daddr") some nodes."""
        addresses = [self.site.remotes[name].machine.address for name in names]
        family = "ip6" if any(":" in address for address in addresses) else "ip"
        return f"{family} {side} {{ {', '.join(addresses)} }}"

    @property
    def others(self) -> list[str]:
        """All other nodes."""
        return [name for name in self.site.remotes if name != self.node]


class CutOff(_Divided):
    """A node is cut off from everybody, clients too."""

    kind = "cut-off"


class Isolated(_Divided):
    """A node is cut off from the other nodes; clients reach it."""

    kind = "isolated"

    def rules(self) -> tuple[str, str]:
        """See `_Divided`."""
        return f"{self.at('saddr', self.others)} counter drop", f"{self.at('daddr', self.others)} counter drop"


class Mute(_Divided):
    """The others do not hear a node."""

    kind = "mute"

    def rules(self) -> tuple[str, str]:
        """See `_Divided`."""
        return "", f"{self.at('daddr', self.others)} counter drop"


class Deaf(_Divided):
    """A node does not hear the others."""

    kind = "deaf"

    def rules(self) -> tuple[str, str]:
        """See `_Divided`."""
        return f"{self.at('saddr', self.others)} counter drop", ""


class Bridged(_Divided):
    """Two nodes do not reach each other, and the third reaches both."""

    kind = "bridged"

    def rules(self) -> tuple[str, str]:
        """See `_Divided`."""
        other = [self.others[0]]
        return f"{self.at('saddr', other)} counter drop", f"{self.at('daddr', other)} counter drop"


class Lossy(_Divided):
    """A third of what a node sends and gets is lost."""

    kind = "lossy"
    source = target = "numgen random mod 100 < 30"


class SwitchedOver(SiteHarm):
    """A planned switchover to a mirror, through the API."""

    kind = "switched-over"

    async def begin(self) -> None:
        """See `Harm`."""
        await self.site.operator.switch_over(self.node)

    async def effect(self) -> str:
        """See `Harm`."""
        primary = (await self.site.observer.ask(self.site.operator.program()))["primary"]
        return f"node {primary} is the primary" if primary == self.node else ""


class Rebooted(SiteHarm):
    """A machine boots, without ending anything before."""

    kind = "rebooted"
    needs: ClassVar[tuple[str, ...]] = ("systemd",)

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("reboot",)

    async def begin(self) -> None:
        """See `Harm`."""
        self._before = await self.do("boot")
        await self.site.remotes[self.node].do(*self.words(), may_be_cut=True)

    async def effect(self) -> str:
        """See `Harm`."""
        end_s = time.monotonic() + _BOOT_S
        while time.monotonic() < end_s:
            try:
                if await self.do("boot") != self._before:
                    return f"node {self.node} has booted"
            except RemoteError:
                pass
            await asyncio.sleep(_LOOK_AGAIN_S)
        return ""


class PowerLost(Rebooted):
    """The same, and nothing is written to its disk any more (sysrq-b)."""

    kind = "power-lost"
    needs = ("systemd", "own-kernel")

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("lose-power",)


class DiskFull(_Undone):
    """Nothing more can be written to the disk of a daemon's data."""

    kind = "disk-full"
    needs = ("own-disk",)

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("fill", self.id, str(UNDO_S), self.site.data_directory)

    async def effect(self) -> str:
        """See `Harm`."""
        return f"nothing could be written in {self.site.data_directory} of node {self.node}"


class WallClockForward(_Undone):
    """The wall clock of a node is five hours fast."""

    kind = "wall-clock-forward"
    needs = ("own-kernel",)
    by_s: ClassVar[int] = _HOURS_S

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("set-clock", self.id, str(UNDO_S), str(self.by_s))

    async def effect(self) -> str:
        """See `Harm`."""
        return f"the clock of node {self.node} was {self.by_s / 3600:+g} hours off"


class WallClockBack(WallClockForward):
    """It is five hours slow."""

    kind = "wall-clock-back"
    by_s = -_HOURS_S


class TrackGarbage(_Undone):
    """The primary's keepalived is told nothing that it understands, for as long as the daemon lets it."""

    kind = "track-garbage"

    def words(self) -> Sequence[str]:
        """See `SiteHarm`."""
        return ("track", self.id, str(UNDO_S), f"{self.site.run_directory}/{self.site.program}.track", "what?")

    async def effect(self) -> str:
        """See `Harm`."""
        return f"the track file of node {self.node} said 'what?'"


_ALL: tuple[type[SiteHarm], ...] = (
    ProgramKilled,
    ShadowKilled,
    AgentKilled,
    DaemonKilled,
    WatchdogKilled,
    KeepalivedKilled,
    DaemonRestarted,
    SwitchedOver,
    DaemonStopped,
    AgentStopped,
    WatchdogStopped,
    KeepalivedStopped,
    CutOff,
    Isolated,
    Mute,
    Deaf,
    Bridged,
    Lossy,
    Rebooted,
    PowerLost,
    DiskFull,
    WallClockForward,
    WallClockBack,
    TrackGarbage,
)
SITE_FAULTS: dict[str, type[SiteHarm]] = {harm.kind: harm for harm in _ALL}
SITE_KINDS: dict[str, tuple[Target, ...]] = {harm.kind: harm.targets for harm in _ALL}
"""All that a plan for a deployed cluster may have."""


def possible(driver: str, has: frozenset[str]) -> dict[str, tuple[Target, ...]]:
    """Those that are possible where the address is carried by this driver and every node has so much."""
    return {
        kind: harm.targets
        for kind, harm in SITE_FAULTS.items()
        if harm.driver in ("", driver) and set(harm.needs) <= has
    }
