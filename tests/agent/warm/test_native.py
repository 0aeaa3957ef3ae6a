"""An unmodified C program on two nodes, of two builds: its sessions are on the other one when they are needed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.agent.structures.built import built
from tests.agent.warm.two_agents import PORT, Pair, two_agents
from transport import control
from transport.control import Exited
from transport.structure_view import GetStructures, Structures

SOURCE = str(Path(__file__).parents[3] / "examples" / "sessions" / "sessions.c")
TABLE = """
[[structures]]
symbol = "g_sessions"
exclude = ["g_sessions.entries.lock", "g_sessions.lock"]
"""


WORDS = (str(PORT),)


async def mirrored_pair(pair: Pair) -> None:
    await pair.launch("a")
    await pair.follow("b", "a")
    await pair.mirrored("b")
    await pair.until("a", lambda status: status.status == "mirrored", "a sees no mirror")


async def test_nothing_of_a_killed_program_is_lost() -> None:
    # What is not there is said, and the rest goes on.
    more = TABLE + '\n[[structures]]\nsymbol = "g_sesions"\n'
    async with two_agents(WORDS, more, (built(SOURCE, "-g", "-O2"), built(SOURCE, "-g", "-O1"))) as pair:
        await mirrored_pair(pair)
        status = await pair.agents["a"].status()
        assert status.reason.startswith("g_sesions: there is no variable g_sesions in /")
        assert "g_sessions" in pair.log("a")
        client = await pair.connect()
        for number in range(20):
            assert client.ask("OPEN", f"user{number}") == f"OK {number}"
        assert client.ask("PUT", "7", "the", "last", "word") == "OK 1"
        status = await pair.agents["a"].status()
        assert status.pauses.p99_us > 0
        taken = (await pair.agents["a"].status()).version.number + 2
        await pair.until("b", lambda status: status.version.number >= taken, "b does not get what was changed")
        shown = await pair.agents["b"].request(GetStructures("g_sessions", 8))
        assert isinstance(shown, Structures)
        sessions = shown.structures[0]
        assert (sessions.name, sessions.source, sessions.trouble) == ("g_sessions", "symbol g_sessions", "")
        assert sessions.version > 1
        assert json.loads(sessions.content)["entries"][3]["user"] == "user3"
        os.kill(status.pid, signal.SIGKILL)
        exited = await pair.heard("a", Exited)
        assert isinstance(exited, Exited)
        assert exited.holders == ("warm@b",)
        await pair.activate("b")
        client = await pair.connect()
        assert client.ask("GET", "7") == "OK user7 1 the last word"
        assert client.ask("COUNT") == "OK 20"
        assert client.ask("PUT", "7", "goes", "on") == "OK 2"
        # And back to a fresh instance where it was.
        await pair.agents["a"].stop()
        await pair.start_agent("a")
        await pair.follow("a", "b")
        await pair.mirrored("a")
        held = await pair.agents["b"].request(control.Switch())
        assert isinstance(held, control.Held)
        await pair.activate("a")
        await pair.agents["b"].carry_out(control.Release())
        client = await pair.connect()
        assert client.ask("GET", "7") == "OK user7 2 goes on"


async def test_another_layout_is_refused_by_its_member(tmp_path: Path) -> None:
    other = tmp_path / "sessions.c"
    other.write_text(Path(SOURCE).read_text().replace("#define VALUE_BYTES 256", "#define VALUE_BYTES 128"))
    async with two_agents(WORDS, TABLE, (built(SOURCE, "-g", "-O2"), built(str(other), "-g", "-O2"))) as pair:
        await pair.launch("a")
        await pair.follow("b", "a")
        status = await pair.until("b", lambda status: "layout" in status.reason, "b says nothing")
        assert status.status == "syncing"
        assert status.reason.startswith("g_sessions has another layout on the other side: g_sessions.entries")
