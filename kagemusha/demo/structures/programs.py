"""The two programs of the story: how they are made ready on a node, and the program.toml of each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import CHECKOUT, INTERFACE, Node
from kagemusha.demo.story import TAKEOVERS_MAX

EXAMPLES = CHECKOUT / "examples"
BUILDS = {"a": ("-O2",), "b": ("-O0", "-fno-inline"), "c": ("-Os", "-funroll-loops")}
"""Node -> how the C program is compiled there: three builds, one layout of the table."""


@dataclass(frozen=True, slots=True)
class Program:
    """One of the two. address: where its clients find it. fill: how many updates it is given at the beginning."""

    id: str
    title: str
    address: str
    port: int
    fill: int
    structures: str = ""

    def toml(self, command: Sequence[str], interval_ms: int, environment: dict[str, str]) -> str:
        """The definition of the program."""
        # A JSON string is a TOML string, and a JSON list of strings a TOML array.
        variables = "".join(f"{name} = {json.dumps(value)}\n" for name, value in environment.items())
        table = f"[program.environment]\n{variables}\n" if variables else ""
        return f"""\
[program]
id = "{self.id}"
command = {json.dumps(list(command))}

{table}[mirror]
mode = "structures"
interval_ms = {interval_ms}

{self.structures}[failover]
max_takeovers = {TAKEOVERS_MAX}

[redirect]
driver = "address"
address = "{self.address}/32"
interface = "{INTERFACE}"
"""


EXCHANGE = Program("exchange", "an exchange in Python", "10.77.0.101", 7001, 20_000)
SESSIONS = Program(
    "sessions",
    "a session table in C",
    "10.77.0.102",
    7000,
    1_000,
    """\
[[structures]]
symbol = "g_sessions"
exclude = ["g_sessions.lock", "g_sessions.entries.lock"]

""",
)
PROGRAMS = (EXCHANGE, SESSIONS)


def install(node: Node, interval_ms: int, interpreter: str = "") -> str:
    """Put both programs and their definitions onto a node; says how the C program was compiled there.

    interpreter: the Python of the exchange there; "": this one. DemoError when there is no compiler, or no such Python.
    """
    (node.own_path("bin")[0]).mkdir(exist_ok=True)
    service, table = node.own_path("bin/exchange"), node.own_path("bin/sessions")
    python = shutil.which(interpreter or sys.executable)
    if python is None:
        raise DemoError(f"there is no Python {interpreter}", hint="give the path of one that has msgpack")
    # The same path on every node, whichever Python is behind it.
    service[0].write_text(f'#!/bin/sh\nexec {python} {EXAMPLES}/exchange/service.py "$@"\n')
    service[0].chmod(0o755)
    flags = BUILDS[node.name]
    _compile(EXAMPLES / "sessions" / "sessions.c", table[0], flags)
    environment = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    for program, executable, variables in ((EXCHANGE, service[1], environment), (SESSIONS, table[1], {})):
        toml = program.toml([str(executable), str(program.port)], interval_ms, variables)
        node.own_path(f"{program.id}.toml")[0].write_text(toml)
    return " ".join(flags)


def _compile(source: Path, executable: Path, flags: Sequence[str]) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        raise DemoError("there is no C compiler", hint="make setup, or apt-get install gcc libc6-dev")
    command = [compiler, "-g", *flags, "-pthread", "-o", str(executable), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise DemoError(f"{source.name} can't be compiled: {' '.join(done.stderr.split())[:500]}")
