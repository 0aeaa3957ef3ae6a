"""One restart of a daemon or an agent while clients write: what became of the program, its connections and mirrors."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from cluster.agents.record import start_ticks_of
from kagemusha.demo.nodes import ADDRESS, Node
from tests.cluster.trio import DEADLINE_S, Trio
from tests.command_lines import command_lines
from tests.restarts.written_redis import Seen, WrittenRedis

Kind = Literal["daemon", "agent", "daemon_killed"]
KINDS: tuple[Kind, ...] = ("daemon", "agent", "daemon_killed")
MIRRORED_S_MAX = 5.0
_LOOK_S = 0.002


@dataclass(frozen=True, slots=True)
class Restart(Seen):
    """What came of one.

    overlaps: how often more than one node was seen to have the program's address. mirrored_s: from the signal until
    every mirror followed again and the daemon was back.
    """

    kind: Kind
    node: str
    pid_unchanged: bool
    token_unchanged: bool
    overlaps: int
    mirrored_s: float

    @property
    def kept(self) -> bool:
        """Whether it was as if nothing had happened, but for a pause.

        A daemon that is killed comes back too late for the lease: the program goes on elsewhere, with all that it had.
        """
        whole = self.survived == self.connections and not self.reset and not self.hung and not self.writes_lost
        if self.problems or self.overlaps or not whole:
            return False
        if self.kind == "daemon_killed":
            return True
        return self.pid_unchanged and self.token_unchanged and self.mirrored_s <= MIRRORED_S_MAX


class Holders:
    """Looks all the time, in a thread of its own, at how many nodes have the program's address."""

    def __init__(self, cluster: Trio) -> None:
        self.overlaps = 0
        # The oldest process of each node stays: its view of the addresses is the node's. (Numbers wrap around.)
        oldest = [min(node.network.processes(), key=start_ticks_of) for node in cluster.machines.nodes.values()]
        self._tables = [Path(f"/proc/{pid}/net/fib_trie") for pid in oldest]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Holders:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.overlaps += sum(f" {ADDRESS}\n" in table.read_text() for table in self._tables) > 1


class Stage(WrittenRedis):
    """Whose daemons and agents are restarted."""

    async def restart(self, kind: Kind) -> Restart:
        """Restart the daemon or the agent of the primary's node."""
        await self.client.ask("ping")
        await self.client.ask("measure", seconds=1.0)
        before = await self.entry()
        node = before["primary"]
        pid = self.cluster.pid_of_redis(node)
        strike: dict[Kind, Callable[[str], Awaitable[None]]] = {
            "daemon": self._daemon,
            "agent": self._agent,
            "daemon_killed": self._daemon_killed,
        }
        with Holders(self.cluster) as holders:
            event_ns = time.monotonic_ns()
            await strike[kind](node)
            await self.cluster.served()
            mirrored_s = (time.monotonic_ns() - event_ns) / 1e9
        seen = await self.seen(event_ns)
        after = await self.entry()
        return Restart(
            **asdict(seen),
            kind=kind,
            node=node,
            pid_unchanged=after["primary"] == node and self.cluster.pid_of_redis(node) == pid,
            token_unchanged=after["token"] == before["token"],
            overlaps=holders.overlaps,
            mirrored_s=round(mirrored_s, 3),
        )

    async def _daemon(self, node: str) -> None:
        """In order: SIGTERM, and when it has ended, another one."""
        daemon = self.cluster.daemons[node]
        await asyncio.to_thread(daemon.stop, signal.SIGTERM)
        daemon.start()

    async def _daemon_killed(self, node: str) -> None:
        """Without a warning: SIGKILL, and at once another one."""
        daemon = self.cluster.daemons[node]
        daemon.stop(signal.SIGKILL)
        daemon.start()

    async def _agent(self, node: str) -> None:
        """Without a warning: SIGKILL. The supervisor starts another one."""
        await kill_agent(self.cluster.machines.nodes[node])


async def kill_agent(node: Node) -> None:
    """Kill the agent of a node, and wait for its end: what is said of mirrors from then on is said by its successor."""
    handle = os.pidfd_open(_pid_of_agent(node))
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        await asyncio.to_thread(_await_end, handle)
    finally:
        os.close(handle)


def _pid_of_agent(node: Node) -> int:
    for pid, words in command_lines(node):
        if b"kagemusha" in words and b"agent" in words:
            return pid
    raise AssertionError(f"there is no agent on {node.name}")


def _await_end(handle: int) -> None:
    """Wait for the end of the process behind a pidfd."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    if not poll.poll(DEADLINE_S * 1000):
        raise AssertionError("an agent does not die of SIGKILL")
