"""The programs that runs mirror: how each is started, and its program.toml."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kagemusha.demo.nodes import Directory
from kagemusha.demo.story import PORT, Story, program_toml, redis_command
from tests.cluster.redirect.on_nodes import DRIVER
from tests.compiled import compiled

ProgramName = Literal["redis", "python", "c"]
PROGRAMS: tuple[ProgramName, ...] = get_args(ProgramName)
Driver = Literal["address", "keepalived"]
DRIVERS: tuple[Driver, ...] = get_args(Driver)
_HERE = Path(__file__).parent / "services"
_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True, slots=True)
class Setup:
    """What is mirrored, and what carries its address."""

    program: ProgramName = "redis"
    driver: Driver = "address"


def command_of(program: ProgramName, directory: Directory) -> Sequence[str]:
    """redis, a Python service with a thread for each client, or a C program with one table. What it is made of lies in
    the run's directory, which every node sees."""
    if program == "redis":
        return redis_command()
    if program == "python":
        return [_PYTHON, "-u", shutil.copy(_HERE / "lists.py", str(directory.path)), str(PORT)]
    return [shutil.copy(compiled(_HERE / "lists.c"), str(directory.path)), str(PORT)]


def definition_of(setup: Setup, directory: Directory) -> str:
    """Its program.toml: the demo's, with another command and another driver."""
    text = program_toml(Story(), directory.data)
    command = json.dumps([str(word) for word in command_of(setup.program, directory)])
    text = text.replace(json.dumps(redis_command()), command)
    return text if setup.driver == "address" else text.replace('driver = "address"', DRIVER)
