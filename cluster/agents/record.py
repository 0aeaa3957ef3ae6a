"""What must be known of an instance after a restart of the daemon: a small file, replaced as a whole."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cluster.registry.values import NodeId, ProgramId
from transport.codec import Form, MessageSet
from transport.errors import ConfigError, FrameError, KagemushaError


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """role: "none" when nothing of the program is here. token: the highest that an order named; lower ones are refused.

    pid, start_ticks: the program of a primary (proc_pid_stat(5)), 0 while it is not known. source, stream: whom a
    mirror follows.
    """

    program: ProgramId
    config_file: str
    role: Literal["primary", "mirror", "none"] = "none"
    token: int = 0
    pid: int = 0
    start_ticks: int = 0
    source: NodeId = ""
    stream: str = ""

    def save(self, path: Path) -> None:
        """Replace the file at `path`. Raises ConfigError when the disk does not take it."""
        fresh = path.with_suffix(".fresh")
        try:
            with fresh.open("wb") as file:
                file.write(_FORM.encode(self)[1])
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}", hint="is the disk full?") from None

    @staticmethod
    def load(path: Path) -> InstanceRecord:
        """Read what `save` wrote. Raises ConfigError."""
        try:
            return _FORM.decode(1, path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except FrameError as error:
            raise ConfigError(f"{path}: {error.what}", hint="remove it; the instance is built anew") from None


_FORM: Final[MessageSet[InstanceRecord]] = MessageSet({1: Form(InstanceRecord, 16 << 10)})


def start_ticks_of(pid: int) -> int:
    """When a process started, in clock ticks since boot, field 22 of proc_pid_stat(5); 0 when there is none.

    Raises KagemushaError when that can't be found out now (no memory, no descriptor): who takes a process that lives
    for one that is gone calls it fenced.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError as error:
        what = f"process {pid} can't be looked at: {error.strerror}"
        raise KagemushaError(what, hint="has the node memory and descriptors left? it is tried again") from None
    return 0 if fields[0] in ("Z", "X") else int(fields[19])
