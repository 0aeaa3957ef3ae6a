"""What the spawner is asked to make, as a value that travels as one line of JSON. Imported by the helper, so: the
standard library only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

UNLIMITED = -1
NO_NAMESPACE = 0
"""In place of the host pid of process 1: the program is in the PID namespace of its agent."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a program is started; everything has been looked up and checked already.

    executable: absolute path. arguments: with the name of the program first. user, group: ids. limits: RLIMIT_ number
    to (soft, hard), -1 for unlimited. oom_score: proc_pid_oom_score_adj(5), None for the agent's own. input, output:
    paths; the output is appended to and takes standard output and error. network: path of a network namespace, None
    for the agent's own. cgroup: directory of a cgroup, None for the agent's own. own_proc: the program gets a mount
    namespace of its own in which /proc shows its own PID namespace; without it /proc/self/task names threads by ids
    that the program does not know.
    """

    executable: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str = "/"
    user: int = 0
    group: int = 0
    groups: tuple[int, ...] = ()
    limits: dict[int, tuple[int, int]] = field(default_factory=dict)
    umask: int = 0o022
    oom_score: int | None = None
    input: str = "/dev/null"
    output: str = "/dev/null"
    network: str | None = None
    cgroup: str | None = None
    own_proc: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """One order to the helper.

    kind: "init" (process 1 of a new PID namespace), "program", "shadow"; "mind": nothing is made, and `number` is the
    host pid of a program that the agent has found running. init: host pid of the namespace's process 1, NO_NAMESPACE
    for a program that has none of its own, whose number is the kernel's choice then. number: the id
    inside that namespace. offsets: (monotonic, boottime) nanoseconds of a new time namespace, counted
    from the machine's own clocks.
    """

    kind: Literal["init", "program", "shadow", "mind"]
    init: int = 0
    number: int = 0
    offsets: tuple[int, int] | None = None
    launch: Launch | None = None
    network: str | None = None
    own_proc: bool = True

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """The request that `encode` made a line of."""
        fields: dict[str, Any] = json.loads(line)
        if (launch := fields["launch"]) is not None:
            launch["arguments"] = tuple(launch["arguments"])
            launch["groups"] = tuple(launch["groups"])
            launch["limits"] = {int(number): tuple(pair) for number, pair in launch["limits"].items()}
            fields["launch"] = Launch(**launch)
        if fields["offsets"] is not None:
            fields["offsets"] = tuple(fields["offsets"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of it: `pid` is the new process's host pid (0: none was made); `stage` names what failed, with
    `errno`."""

    pid: int
    stage: str = ""
    errno: int = 0

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Reply:
        return cls(**json.loads(line))
