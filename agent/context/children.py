"""Children of the program: they are not mirrored, but their parent is told that they died.

A takeover leaves the children behind. A parent that waits for one, or asks again and again whether it has ended (a
database that saves in the background), must learn that it is gone: so each gets a stand-in with its id, which was
killed by SIGKILL. The parent gets SIGCHLD, and wait(2) gives what it gives of a killed child.

Who the children are is read at a `refresh` and of a dying program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.context.record import pack, unpack
from agent.errors import TraceeGone
from agent.kernel import procfs
from agent.tracing.stopped import Stopped
from transport.checkpoint import Records

if TYPE_CHECKING:
    from agent.mirror.shadow import Shadow

KEY: Final = "children"


@dataclass(frozen=True, slots=True)
class ChildrenRecord:
    """Key "children". numbers: the children's pids in the program's PID namespace, ascending."""

    numbers: tuple[int, ...]


def capture(stopped: Stopped) -> Records:
    """The record of all children that are not waited for yet."""
    if KEY in stopped.previous and not (stopped.refresh or stopped.dying):
        return {KEY: stopped.previous[KEY]}
    depth = len(procfs.status(stopped.pid).namespace_pids)
    numbers = []
    for pid in procfs.children(stopped.pid):
        try:
            ids = procfs.status(pid).namespace_pids
        except TraceeGone:
            continue
        # A child in a deeper namespace has one more id of its own; its parent knows it by this one.
        numbers.append(ids[min(depth, len(ids)) - 1])
    return {KEY: pack(ChildrenRecord(tuple(sorted(numbers))))}


def activate(shadow: Shadow, records: Records) -> None:
    """Make the dead stand-ins: after the action of SIGCHLD was set, while the shadow may still choose ids."""
    if KEY in records:
        shadow.add_dead_children(unpack(ChildrenRecord, records[KEY], KEY).numbers)
