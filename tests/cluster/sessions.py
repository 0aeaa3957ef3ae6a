"""The session table in C as the program of a cluster."""

from __future__ import annotations

import shutil
from typing import Final

from kagemusha.demo.nodes import ADDRESS, CHECKOUT, INTERFACE
from tests.agent.structures.built import built
from tests.cluster.operated import Operated

PORT: Final = 6379
"""Where the trio connects to."""
SOURCE: Final = str(CHECKOUT / "examples" / "sessions" / "sessions.c")


def install(cluster: Operated, definition: str) -> str:
    """Put the program and its definition onto each node; the definition's path there."""
    executable = cluster.directory.node / "sessions"
    text = definition.format(executable=executable, port=PORT, address=ADDRESS, interface=INTERFACE)
    for node in cluster.machines.nodes.values():
        shutil.copy(built(SOURCE, "-g", "-O2"), node.own / "sessions")
        (node.own / "sessions.toml").write_text(text)
    return str(cluster.directory.node / "sessions.toml")
