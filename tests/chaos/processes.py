"""The processes of a node by what they are for, found by how they were started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from kagemusha.demo.nodes import Machine
from tests.command_lines import command_lines

Role = Literal["daemon", "agent", "watchdog", "spawner", "keepalived", "program"]
ROLES: tuple[Role, ...] = get_args(Role)
REGISTERED = "registered.toml"
"""The file of a program that is there for its entry in the registry alone. Its processes have no role."""


class NoProcess(Exception):
    """There is no process of that role on the node now."""


def role_of(words: list[bytes], program: bytes) -> Role | None:
    """What a command line says; program: how that of the program begins."""
    if words and words[0].startswith(program):
        return "program"
    if any(word.endswith(b"keepalived") for word in words[:1]):
        return "keepalived"
    if b"kagemusha" in words:
        return next((role for role in ROLES if _is_word_of(role) in words), None)
    return "spawner" if any(b"spawner_process" in word for word in words) else None


def _is_word_of(role: Role) -> bytes:
    return b"node" if role == "daemon" else role.encode()


def processes(machine: Machine, program: bytes) -> Iterator[tuple[Role, int]]:
    """All of a machine that have a role."""
    found = list(command_lines(machine))
    apart = {pid for pid, words in found if any(word.endswith(REGISTERED.encode()) for word in words)}
    for pid, words in found:
        if (role := role_of(words, program)) is not None and not apart & {pid, parent_of(pid)}:
            yield role, pid


def pid_of(machine: Machine, role: Role, program: bytes) -> int:
    """The process of a role. Raises NoProcess."""
    pid = next((pid for found, pid in sorted(processes(machine, program)) if found == role), None)
    if pid is None:
        raise NoProcess(f"node {machine.name} has no process that is its {role}")
    return pid


def parent_of(pid: int) -> int:
    """Its parent's pid (proc(5)); 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def open_descriptors(pid: int) -> list[int]:
    """The numbers of its descriptors, ascending; none where it is gone."""
    try:
        return sorted(int(number) for number in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return []


def state_of(pid: int) -> str:
    """The letter of proc(5); "X" for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def threads_of(pid: int) -> int:
    """How many it has (proc(5)); 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17])
    except (OSError, IndexError):
        return 0


def resident_kib(pid: int) -> int:
    """How much of its memory is resident (proc(5), statm); 0 where it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 10
