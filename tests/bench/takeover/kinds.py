"""The kinds of takeovers, in the order in which they are measured, and what each must keep."""

from __future__ import annotations

from typing import Final, Literal

from tests.bench.takeover.row import Promise

Kind = Literal[
    "process_killed",
    "agent_killed",
    "switchover",
    "node_killed",
    "leader_node_killed",
    "daemon_stopped",
    "partition",
    "program_hung",
]

HEALTH_INTERVAL_MS: Final = 100
HEALTH_FALL: Final = 2
HEALTH: Final = f"""
[[health]]
kind = "exchange"
port = 6379
send = "PING\\r\\n"
expect = "+PONG"
interval_ms = {HEALTH_INTERVAL_MS}
timeout_ms = {HEALTH_INTERVAL_MS // 2}
fall = {HEALTH_FALL}
"""
"""Stands in the program's file for `program_hung` alone: nothing else is measured with so impatient a check."""

PROMISES: Final[dict[Kind, Promise]] = {
    "process_killed": Promise(50.0, keeps_writes=True),
    "agent_killed": Promise(200.0, keeps_writes=True),
    "switchover": Promise(50.0, keeps_writes=True),
    "node_killed": Promise(800.0),
    "leader_node_killed": Promise(800.0),
    "daemon_stopped": Promise(),
    "partition": Promise(),
    "program_hung": Promise(HEALTH_INTERVAL_MS * HEALTH_FALL + 100.0, keeps_writes=True),
}
