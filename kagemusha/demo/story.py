"""What a demo tells and with which numbers: the options of a run, and the program.toml that it writes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import ADDRESS, INTERFACE

PROGRAM = "redis-server"
PROGRAM_ID = "redis"
PORT = 6379
STREAM_PORT = 7000
FIRST_NODE = "a"
TAKEOVERS_MAX = 1000
"""A program that is killed so often of late would be started without its context; here it is killed on purpose."""


@dataclass(frozen=True, slots=True)
class Story:
    """The options of a run. `rounds`: how often the program is killed. `load_share`: how busy redis is kept during
    the takeovers, as a part of what it does (of two nodes: without a mirror; of three: with both of its mirrors);
    1: as fast as it answers."""

    memory_mib: int = 100
    interval_ms: int = 50
    rounds: int = 3
    load_share: float = 0.6
    measure_s: float = 3.0
    warm_up_s: float = 1.0
    idle: int = 20
    busy: int = 20
    anew: int = 5


def redis_command() -> list[str]:
    """Debian's redis-server as it comes, without persistence. DemoError if it is not installed."""
    executable = shutil.which(PROGRAM)
    if executable is None:
        raise DemoError(f"{PROGRAM} is not installed", hint="make setup, or apt-get install redis-server")
    return [executable, "--save", "", "--bind", "0.0.0.0", "--protected-mode", "no", "--port", str(PORT)]


def program_toml(story: Story, directory: Path) -> str:
    """The definition of the program. DemoError if it is not installed."""
    # A JSON string is a TOML string, and a JSON list of strings a TOML array.
    return f"""\
[program]
id = "{PROGRAM_ID}"
command = {json.dumps(redis_command())}
directory = {json.dumps(str(directory))}

[mirror]
interval_ms = {story.interval_ms}

[failover]
max_takeovers = {TAKEOVERS_MAX}

[redirect]
driver = "address"
address = "{ADDRESS}/32"
interface = "{INTERFACE}"
"""
