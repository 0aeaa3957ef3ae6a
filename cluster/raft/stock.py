"""What pysyncobj is given in the place of its own settings' checks and of its transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pysyncobj import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from cluster.raft.times import Times


class _Settings(SyncObjConf):  # type: ignore[misc]
    def validate(self) -> None:
        """`Times` has checked; pysyncobj wants election times above three heartbeats and TCP times of its own."""


def settings_of(times: Times) -> SyncObjConf:
    """Return pysyncobj's settings for these times, driven from outside."""
    return _Settings(
        autoTick=False,
        raftMinTimeout=times.election_min_s,
        raftMaxTimeout=times.election_max_s,
        appendEntriesPeriod=times.heartbeat_s,
        leaderFallbackTimeout=times.leader_lease_s,
        commandsWaitLeader=False,
        logCompactionMinEntries=times.compact_entries,
        logCompactionMinTime=times.compact_s,
    )


class Outlet(Transport):  # type: ignore[misc]
    """What pysyncobj takes for its transport."""

    def __init__(self, send: Callable[[Node, dict[str, Any]], bool]) -> None:
        super().__init__(None, None, ())
        self._send = send

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """Hand a message on; return whether there is a connection that takes it."""
        return self._send(node, message)
