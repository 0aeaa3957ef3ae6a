"""What the demo tells and with which numbers: the options of a run, and the program.toml that it writes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import ADDRESS, INTERFACE

PROGRAM = "redis-server"
PORT = 6379
STREAM_PORT = 7000
FIRST_NODE = "a"


@dataclass(frozen=True, slots=True)
class Story:
    """The options of a run. `rounds`: how often the program is killed. `load_share`: how busy redis is kept during
    the takeovers, as a part of what it does without a mirror; 1: as fast as it answers."""

    memory_mib: int = 100
    interval_ms: int = 50
    rounds: int = 3
    load_share: float = 0.6
    measure_s: float = 3.0
    warm_up_s: float = 1.0
    idle: int = 20
    busy: int = 20
    anew: int = 5


def program_toml(story: Story, directory: Path) -> str:
    """The definition of the program: Debian's redis-server as it comes, without persistence."""
    executable = shutil.which(PROGRAM)
    if executable is None:
        raise DemoError(f"{PROGRAM} is not installed", hint="make setup, or apt-get install redis-server")
    # A JSON string is a TOML string, and a JSON list of strings a TOML array.
    command = [executable, "--save", "", "--bind", "0.0.0.0", "--protected-mode", "no", "--port", str(PORT)]
    return f"""\
[program]
id = "redis"
command = {json.dumps(command)}
directory = {json.dumps(str(directory))}

[mirror]
interval_ms = {story.interval_ms}

[redirect]
driver = "address"
address = "{ADDRESS}/32"
interface = "{INTERFACE}"
"""
