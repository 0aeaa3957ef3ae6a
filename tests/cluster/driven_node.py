"""A node's daemon that a test drives over a Unix socket: one line of JSON in, one line out. Arguments: node.toml."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from cluster.config import NODE_FILE
from cluster.leader.news import SwitchRequested
from cluster.leader.orders import Note
from cluster.node.messages import ProgramRead, ReadProgram
from cluster.node.questions import Look, Seen
from cluster.node.runner import Given, Runner
from cluster.registry.commands import CreateProgram, Ok
from kagemusha.inherited_signals import hear_all
from kagemusha.program_reader import read_program
from kagemusha.promptness import DAEMON_PRIORITY, be_punctual, punctual_workers
from transport.clock import boottime_s
from transport.errors import KagemushaError
from transport.tls import Tls

PYTHON = (sys.executable, "-m", "kagemusha")
SWITCH_S = 30.0
_REAL = (time.time, time.time_ns)


class Driven:
    """The daemon and what may be asked of it."""

    def __init__(self, path: str) -> None:
        self.config = NODE_FILE.load(path)
        tls = Tls.load(Path(self.config.node.pki))
        self.runner = Runner(self.config, tls, Given((*PYTHON, "agent"), (*PYTHON, "watchdog"), read_program))
        self.notes: list[Note] = []
        self.runner.decisions.on_note.append(self.notes.append)

    async def answer(self, question: dict[str, Any]) -> object:
        """Do what is asked."""
        runner = self.runner
        match question["do"]:
            case "view":
                leader = runner.leader
                return {
                    "leads": leader.holds(boottime_s()) and runner.decisions.failover.leads,
                    "term": leader.term,
                    "nodes": sorted(runner.registry.nodes),
                    "programs": {name: dataclasses.asdict(one) for name, one in runner.registry.programs.items()},
                    "notes": [[note.token, note.what, dict(note.parts)] for note in self.notes],
                }
            case "create":
                read = await runner.ask(runner.node, ReadProgram(question["file"]))
                assert isinstance(read, ProgramRead)
                nodes = tuple(question["nodes"])
                command = CreateProgram("create", read.program, question["file"], read.digest, nodes, read.policy)
                return dataclasses.asdict(await runner.propose(command))
            case "switch":
                request = SwitchRequested(question["id"], question["instance"])
                result = await runner.decisions.request(question["id"], request, SWITCH_S)
                return {"ok": isinstance(result, Ok), "result": dataclasses.asdict(result)}
            case "set wall clock":
                set_wall_clock(question["by_s"])
                return {}
            case "forbid watchdogs":
                runner.guard._command = ["/bin/false"]
                return {}
            case "keep leases from the kernel":
                guard = runner.guard
                assert guard._kernel is not None
                for slot in guard._slots.values():
                    watched = guard._leases.watched(slot)
                    assert watched is not None
                    guard._kernel.forget(watched.instance)
                guard._kernel = None
                return {}
            case "look":
                seen = await runner.ask(question["node"], Look(question["program"]))
                assert isinstance(seen, Seen)
                return dataclasses.asdict(seen.status)
        raise KagemushaError(f"{question} is not understood")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question."""
        try:
            answer = await self.answer(json.loads(await reader.readline()))
        except KagemushaError as error:
            answer = {"error": error.what, "hint": error.hint}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()


def set_wall_clock(by_s: float) -> None:
    """Set CLOCK_REALTIME by so much, for this process alone: the machine's own is everybody's."""
    now, now_ns = _REAL
    for name, moved in (("time", lambda: now() + by_s), ("time_ns", lambda: now_ns() + round(by_s * 1e9))):
        setattr(time, name, moved)


async def run(path: str) -> None:
    """Serve until SIGTERM."""
    driven = Driven(path)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(punctual_workers())
    loop.add_signal_handler(signal.SIGTERM, told.set)
    await driven.runner.start()
    socket = Path(driven.config.node.run) / "driver"
    socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(driven.serve, socket)
    await told.wait()
    server.close()
    await driven.runner.extend()
    await driven.runner.close()


if __name__ == "__main__":
    hear_all()
    be_punctual(DAEMON_PRIORITY)
    uvloop.run(run(sys.argv[1]))
