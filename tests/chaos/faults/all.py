"""All kinds of faults by name."""

from __future__ import annotations

from tests.chaos.faults.fault import Fault
from tests.chaos.faults.kills import AgentKilled, DaemonKilled, ProgramKilled, ShadowKilled, WatchdogKilled
from tests.chaos.faults.mistakes import DuplicateNode, ForeignAddress, WrongCertificate, WrongCluster
from tests.chaos.faults.partitions import Bridged, CutOff, Deaf, Flapping, Isolated, Lossy, Mute
from tests.chaos.faults.planned import DaemonRestarted, SwitchedOver
from tests.chaos.faults.power import AllKilled, NodeKilled
from tests.chaos.faults.resources import AgentOutOfDescriptors, DaemonOutOfDescriptors
from tests.chaos.faults.standstills import AgentStopped, DaemonFrozen, DaemonStopped, WatchdogStopped
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
    NodeKilled,
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
    WrongCertificate,
    WrongCluster,
    DuplicateNode,
    ForeignAddress,
)
FAULTS: dict[str, type[Fault]] = {fault.kind: fault for fault in _ALL}
KINDS: dict[str, tuple[Target, ...]] = {fault.kind: fault.targets for fault in _ALL}
"""What plans are made of."""
