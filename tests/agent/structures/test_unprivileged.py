"""Without root: an agent that runs as the program's own user mirrors its structures, with stops and tracked writes."""

from __future__ import annotations

from tests.agent.structures.built import built
from tests.unprivileged import run_as_nobody

IMPORTS = """
import json, os, subprocess
from agent.structures import standstill
from agent.structures.locating import locate
from agent.structures.reception import Reception
from agent.structures.supply import Supply
from agent.structures.table import StructureTable
from agent.tracing.prompt import Prompt
from tests.agent.structures.built import ask, running, traced
import elftools.dwarf.dwarfinfo, elftools.elf.elffile, numpy.random, subprocess, signal, selectors, pathlib
"""

CODE = """
from pathlib import Path
table = StructureTable(symbol="g_sessions", exclude=("g_sessions.entries.lock",))
told = []
with traced(Path({program!r})) as program, running(Path({program!r})) as mirror:
    located, refused = locate([table], program.pid)
    stop = standstill.by_tracing(program.tracee, Prompt(None), 5.0)
    supply = Supply(located, program.tracee, stop, interval_ms=50, token=1, told=told.append)
    reception = Reception(locate([table], mirror.pid)[0], standstill.none)
    for one in supply.declarations:
        refused.append(reception.compare(one))
    for number in range(3):
        ask(program, f"w {{number}} 5 1.5")
        for update in supply.take(float(number)):
            reception.apply(update)
    print(json.dumps([os.getuid(), [str(one) for one in refused if one], told, supply.remarks, mirror.tell("d 2")]))
    supply.close()
    reception.close()
"""


def test_a_program_of_the_agents_own_user_is_mirrored() -> None:
    done = run_as_nobody(IMPORTS, CODE.format(program=str(built("sessions.c", "-g"))))
    assert done.stdout.strip() == '[65534, [], [], [], "5 user5 5 1 5 1.50 3"]', done.stderr
