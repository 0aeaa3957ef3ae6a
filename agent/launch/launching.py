"""From a program's definition to a running process: who, where, with what, and whether there is room to mirror it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import psutil

from agent.launch.identity import environment_of, identity_of
from agent.launch.spawn_request import Launch
from agent.launch.spawner import Spawner
from agent.launch.start import Started, find_command, start
from agent.program import Definition

NOTHING_MORE: Final[Mapping[str, str]] = MappingProxyType({})
_SHARE_OF_MEMORY = 0.5


def output_path(directory: Path, definition: Definition) -> Path:
    """Where the program's standard output goes: beside the agent's own directory, at the same path on every node."""
    return directory.absolute().parent / f"{definition.program.id}.log"


def launch(
    definition: Definition, directory: Path, spawner: Spawner, told: Mapping[str, str] = NOTHING_MORE
) -> Started:
    """Start the program; waits until it has lived for a moment. told: environment variables that the agent adds.

    Raises LaunchError, ConfigError.
    """
    program = definition.program
    identity = identity_of(program)
    environment = {**environment_of(program, identity), **told}
    executable = find_command(program.command[0], search_path=environment["PATH"], directory=program.directory)
    request = Launch(
        executable=executable,
        arguments=program.command,
        environment=environment,
        directory=program.directory,
        user=identity.uid,
        group=identity.gid,
        groups=identity.groups,
        limits=definition.limits.rlimits(),
        umask=program.umask_bits,
        oom_score=program.oom_score_adjust,
        output=str(output_path(directory, definition)),
        own_proc=os.geteuid() == 0,
    )
    return start(spawner, request, number=definition.mirror.pid)


def room_for_image_bytes(definition: Definition) -> int:
    """The most memory that an image of the program may take: as the definition says, else half of this machine's."""
    if definition.mirror.memory_mib_max is not None:
        return definition.mirror.memory_mib_max << 20
    return int(psutil.virtual_memory().total * _SHARE_OF_MEMORY)
