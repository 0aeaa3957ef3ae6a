"""All kinds of faults by name."""

from __future__ import annotations

from tests.chaos.faults.carriers import KeepalivedKilled, KeepalivedStopped, TrackGarbage, TrackStale
from tests.chaos.faults.clocks import Asleep, WallClockBack, WallClockForward
from tests.chaos.faults.disks import DiskHangs, DiskLost, DiskSlow
from tests.chaos.faults.fault import Fault
from tests.chaos.faults.kills import AgentKilled, DaemonKilled, ProgramKilled, ShadowKilled, WatchdogKilled
from tests.chaos.faults.memory import AgentOutOfMemory, DaemonOutOfMemory, MemoryStarved, ProgramOutOfMemory
from tests.chaos.faults.mistakes import DuplicateNode, ForeignAddress, WrongCertificate, WrongCluster
from tests.chaos.faults.partitions import Bridged, CutOff, Deaf, Flapping, Isolated, Lossy, Mute
from tests.chaos.faults.planned import AllRestarted, DaemonRestarted, SwitchedOver, Upgraded
from tests.chaos.faults.power import AllKilled, NodeKilled, PowerLost, ProcessesKilled
from tests.chaos.faults.resources import AgentOutOfDescriptors, DaemonOutOfDescriptors, DiskFull
from tests.chaos.faults.standstills import (
    AgentStopped,
    DaemonFrozen,
    DaemonStopped,
    NodeStarved,
    Starved,
    WatchdogStopped,
)
from tests.chaos.faults.wires import Corrupted, Duplicated, Late, Reordered
from tests.chaos.plan import Target

_ALL: tuple[type[Fault], ...] = (
    ProgramKilled,
    ShadowKilled,
    AgentKilled,
    DaemonKilled,
    WatchdogKilled,
    SwitchedOver,
    DaemonRestarted,
    DaemonStopped,
    AgentStopped,
    WatchdogStopped,
    DaemonFrozen,
    Starved,
    NodeStarved,
    MemoryStarved,
    ProgramOutOfMemory,
    AgentOutOfMemory,
    DaemonOutOfMemory,
    WallClockForward,
    WallClockBack,
    Asleep,
    AllRestarted,
    Upgraded,
    ProcessesKilled,
    NodeKilled,
    PowerLost,
    AllKilled,
    CutOff,
    Isolated,
    Mute,
    Deaf,
    Bridged,
    Flapping,
    Lossy,
    Late,
    Reordered,
    Duplicated,
    Corrupted,
    DaemonOutOfDescriptors,
    AgentOutOfDescriptors,
    DiskFull,
    DiskSlow,
    DiskHangs,
    DiskLost,
    WrongCertificate,
    WrongCluster,
    DuplicateNode,
    ForeignAddress,
    KeepalivedKilled,
    KeepalivedStopped,
    TrackStale,
    TrackGarbage,
)
FAULTS: dict[str, type[Fault]] = {fault.kind: fault for fault in _ALL}
KINDS: dict[str, tuple[Target, ...]] = {fault.kind: fault.targets for fault in _ALL}
"""All that a plan may have."""


def kinds_with(driver: str, program: str = "redis", *, daemons_live: bool = False) -> dict[str, tuple[Target, ...]]:
    """Those that are possible where this program is mirrored and its address is carried by this driver. daemons_live:
    only those of which no daemon or watchdog ends."""
    return {
        kind: targets
        for kind, targets in KINDS.items()
        if FAULTS[kind].driver in ("", driver)
        and (not FAULTS[kind].programs or program in FAULTS[kind].programs)
        and not (daemons_live and FAULTS[kind].ends_daemons)
    }
