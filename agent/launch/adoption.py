"""A program that runs without its agent is found again: the same process, the same program, and its namespace's root.

An agent that died left the program running (ptrace(2): a tracer's end detaches it). Nothing of what that agent knew is
trusted: the successor begins with the process as it is.
"""

from __future__ import annotations

import os

from agent.errors import KernelError, TraceeGone
from agent.kernel import procfs
from agent.launch.identity import environment_of, identity_of
from agent.launch.spawn_request import NO_NAMESPACE
from agent.launch.start import Started, find_command
from agent.program import Definition
from transport.errors import ControlError

_HINT = "start the program anew, or let a mirror take over"


def find_running(definition: Definition, pid: int, start_ticks: int) -> Started:
    """The process that was told to be this program. start_ticks: when it started, as proc_pid_stat(5) counts, so that
    another process under the same number is not taken for it.

    Raises ControlError when it is not there, is another one, is traced, or is no process of its own PID namespace.
    """
    program = definition.program.id
    try:
        ticks, status = procfs.stat(pid).start_ticks, procfs.status(pid)
        executable = os.stat(f"/proc/{pid}/exe")
        namespace = procfs.namespace_inode(pid, "pid")
    except (TraceeGone, KernelError, OSError):
        raise ControlError(f"{program}: process {pid} is gone", hint=_HINT) from None
    if ticks != start_ticks:
        raise ControlError(f"{program}: process {pid} is another one than it was", hint=_HINT)
    if status.tracer:
        raise ControlError(f"{program}: process {pid} is traced by process {status.tracer}", hint="end that one first")
    environment = environment_of(definition.program, identity_of(definition.program))
    command = find_command(
        definition.program.command[0], search_path=environment["PATH"], directory=definition.program.directory
    )
    if not os.path.samestat(executable, os.stat(command)):
        raise ControlError(f"{program}: process {pid} does not execute {command}", hint=_HINT)
    if os.geteuid() != 0:
        return Started(pid, NO_NAMESPACE, pid, -1)
    if namespace == procfs.namespace_inode(os.getpid(), "pid"):
        raise ControlError(f"{program}: process {pid} has no PID namespace of its own", hint=_HINT)
    return Started(pid, _root_of(namespace, program), status.namespace_pids[-1], -1)


def _root_of(namespace: int, program: str) -> int:
    """The host pid of process 1 of a PID namespace."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        try:
            # The cheap question first; processes come and go meanwhile.
            if procfs.namespace_inode(pid, "pid") == namespace and procfs.status(pid).namespace_pids[-1] == 1:
                return pid
        except (TraceeGone, KernelError):
            continue
    raise ControlError(f"{program}: its PID namespace has no process 1", hint=_HINT)
