"""A member as a process of its own: `python -m tests.cluster.raft.process SPEC`, one JSON object per line.

Reads {"id", "propose", "timeout_s"} or {"id", "ask"} from standard input; answers {"id", ...}; tells every change of
leadership as {"leader", "term", "holds", "at_s"}.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import uvloop

from cluster.raft.lease import Leadership
from cluster.raft.member import Member
from cluster.raft.times import Times
from tests.cluster.raft.group import Counter
from transport.clock import boottime_s
from transport.errors import KagemushaError
from transport.tls import Tls


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _on_change(leadership: Leadership) -> None:
    now = boottime_s()
    _say(leader=leadership.leader, term=leadership.term, holds=leadership.holds(now), at_s=now)


async def _answer(member: Member, machine: Counter, request: dict[str, Any]) -> None:
    if "ask" in request:
        digest = hashlib.sha256(machine.snapshot()).hexdigest()
        _say(id=request["id"], count=len(machine.commands), digest=digest)
        return
    try:
        result = await member.propose(request["propose"].encode(), request["timeout_s"])
    except KagemushaError as error:
        _say(id=request["id"], error=type(error).__name__, what=error.what)
    else:
        _say(id=request["id"], result=result.decode(), at_s=boottime_s())


async def _main(spec: dict[str, Any]) -> int:
    directory = Path(spec["directory"])
    machine = Counter()
    peers = {node: (host, port) for node, (host, port) in spec["peers"].items()}
    node = spec["node"]
    member = Member(
        node,
        peers,
        Tls.load(directory / "pki" / node),
        directory / f"data-{node}",
        machine.apply,
        machine.snapshot,
        machine.restore,
        _on_change,
        cluster="test",
        times=Times(compact_entries=spec["compact_entries"]),
    )
    try:
        await member.start()
    except KagemushaError as error:
        _say(error=type(error).__name__, what=error.what)
        return 1
    _say(started=node)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        task = asyncio.create_task(_answer(member, machine, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    await member.close()
    return 0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        sys.exit(loop.run(_main(json.loads(sys.argv[1]))))
