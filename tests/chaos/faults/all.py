"""All kinds of faults by name."""

from __future__ import annotations

from tests.chaos.faults.carriers import KeepalivedKilled, KeepalivedStopped, TrackGarbage, TrackStale
from tests.chaos.faults.fault import Fault
from tests.chaos.faults.kills import AgentKilled, DaemonKilled, ProgramKilled, ShadowKilled, WatchdogKilled
from tests.chaos.faults.mistakes import DuplicateNode, ForeignAddress, WrongCertificate, WrongCluster
from tests.chaos.faults.partitions import Bridged, CutOff, Deaf, Flapping, Isolated, Lossy, Mute
from tests.chaos.faults.planned import DaemonRestarted, SwitchedOver
from tests.chaos.faults.power import AllKilled, NodeKilled, PowerLost, ProcessesKilled
from tests.chaos.faults.resources import AgentOutOfDescriptors, DaemonOutOfDescriptors, DiskFull
from tests.chaos.faults.standstills import AgentStopped, DaemonFrozen, DaemonStopped, Starved, WatchdogStopped
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


def kinds_with(driver: str) -> dict[str, tuple[Target, ...]]:
    """Those that are possible where the address is carried by this driver."""
    return {kind: targets for kind, targets in KINDS.items() if FAULTS[kind].driver in ("", driver)}
