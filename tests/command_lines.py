"""What runs on a machine of the demo, by how it was started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kagemusha.demo.nodes import Machine


def command_lines(machine: Machine) -> Iterator[tuple[int, list[bytes]]]:
    """The pid and the words of every process that is there now; one that ends meanwhile is passed over."""
    for pid in machine.network.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        yield pid, words.removesuffix(b"\0").split(b"\0")
