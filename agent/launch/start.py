"""Starting a program for real: found, checked, born in namespaces of its own, and still there a moment later.

A program never is process 1 of its PID namespace (process 1 ignores signals that it does not handle, and takes all
others with it), and has the same number on every node, so that a mirror can be given the same one.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.errors import LaunchError
from agent.kernel import elf, pidfd
from agent.kernel.namespaces import TimeOffsets
from agent.launch.spawn_request import NO_NAMESPACE, Launch
from agent.launch.spawner import BirthFailed, Spawner

PROGRAM_NUMBER = 77
SETTLE_S = 0.3

_HEAD_BYTES = 256
_TAIL_BYTES = 4096
_LINE_CHARACTERS_MAX = 200

_LIMIT_NAMES = {
    resource.RLIMIT_NOFILE: "open files",
    resource.RLIMIT_NPROC: "processes",
    resource.RLIMIT_STACK: "stack",
    resource.RLIMIT_MEMLOCK: "locked memory",
    resource.RLIMIT_AS: "address space",
    resource.RLIMIT_DATA: "data",
    resource.RLIMIT_FSIZE: "file size",
    resource.RLIMIT_CORE: "core file",
}


@dataclass(frozen=True, slots=True)
class Started:
    """A program that runs. pid, init: host pids of the program and of process 1 of its PID namespace, which is
    NO_NAMESPACE where it has none of its own. number: its own id in that namespace. pidfd: of the program; whoever
    holds this closes it."""

    pid: int
    init: int
    number: int
    pidfd: int


def find_command(command: str, *, search_path: str, directory: str = "/") -> str:
    """The absolute path of what `command` names: a path (from `directory`), or a name along `search_path`.

    Raises LaunchError when there is none, when it can't be executed, or is for another machine.
    """
    if "/" in command:
        path = os.path.normpath(os.path.join(directory, command))
        if not os.path.exists(path):
            raise LaunchError(f"{path} does not exist", hint="check program.command")
    else:
        found = shutil.which(command, path=search_path)
        if found is None:
            raise LaunchError(
                f"there is no command {command!r} along {search_path}",
                hint="install the program, or give program.command its absolute path",
            )
        path = os.path.abspath(found)
    _check_executable(path)
    return path


def _check_executable(path: str, *, script: str = "") -> None:
    named = f"{path}, the interpreter of {script}," if script else path
    try:
        status = os.stat(path)
        with open(path, "rb") as file:
            head = b"" if stat.S_ISDIR(status.st_mode) else file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise LaunchError(f"{named} does not exist", hint="install the interpreter") from None
    except IsADirectoryError:
        raise LaunchError(f"{named} is a directory", hint="program.command names an executable file") from None
    except OSError as error:
        raise LaunchError(f"{named} can't be read: {error.strerror}") from error
    if not status.st_mode & 0o111:
        raise LaunchError(f"{named} is not executable", hint=f"chmod +x {path}")
    if elf.word_size(head) == 32:
        raise LaunchError(
            f"{named} is a 32-bit executable", hint="only 64-bit programs can be mirrored: install its 64-bit build"
        )
    if (machine := elf.machine(head)) is not None and machine != elf.EM_X86_64:
        raise LaunchError(f"{named} is an executable for another machine ({machine})", hint="install it for x86-64")
    interpreter = elf.interpreter(head)
    if interpreter is not None and not script:
        _check_executable(interpreter, script=path)


def start(
    spawner: Spawner,
    launch: Launch,
    *,
    number: int = PROGRAM_NUMBER,
    offsets: TimeOffsets | None = None,
    settle_s: float = SETTLE_S,
) -> Started:
    """Start a program in a PID namespace (and with `offsets`, a time namespace) of its own, and see that it stays. An
    agent that is not root can make neither: its program has whatever number there is.

    Waits for `settle_s` seconds. Raises LaunchError, one line that says what is wrong and with what; then nothing of it
    is left.
    """
    init = spawner.new_pid_namespace() if os.geteuid() == 0 else NO_NAMESPACE
    written_before = _size(launch.output)
    try:
        with _explained(launch):
            pid = spawner.program(init, number, launch, offsets)
    except LaunchError:
        spawner.end_namespace(init)
        raise
    descriptor = pidfd.open_pidfd(pid)
    if not pidfd.ends(descriptor, settle_s):
        return Started(pid, init, pid if init == NO_NAMESPACE else number, descriptor)
    os.close(descriptor)
    status = spawner.reap(pid)
    spawner.end_namespace(init)
    raise _ended_at_once(launch, status or 0, written_before)


@contextmanager
def _explained(launch: Launch) -> Iterator[None]:
    """Turns the step of a birth that failed into what a person can act on."""
    try:
        yield
    except BirthFailed as failure:
        what, hint = _explain(failure.stage, failure.errno, launch)
        raise LaunchError(f"{what}: {os.strerror(failure.errno)}", hint=hint) from failure


def _explain(stage: str, number: int, launch: Launch) -> tuple[str, str]:
    name, _, detail = stage.partition(" ")
    match name:
        case "exec":
            return f"can't start {launch.executable}", _exec_hint(number, launch)
        case "directory":
            return f"working directory {launch.directory}", f"make it, and let user {launch.user} enter it"
        case "output":
            return f"output file {launch.output}", "make its directory"
        case "input":
            return f"input file {launch.input}", "name a file that exists"
        case "user":
            return f"can't become user {launch.user}, group {launch.group}", "only root can"
        case "limit":
            return _explain_limit(int(detail))
        case "oom":
            hint = "it takes CAP_SYS_RESOURCE to go below the agent's own; without the key it is 0, as of any process"
            return f"can't set oom_score_adjust = {launch.oom_score}", hint
        case "cgroup":
            return f"can't join cgroup {launch.cgroup}", "make it, without processes in cgroups above it"
        case "network":
            return f"can't enter network namespace {launch.network}", "make it with `ip netns add`"
        case "clone3" if number == errno.EPERM:
            return "can't make a process in a PID namespace", "run the agent as root"
    return f"{stage} failed", ""


def _exec_hint(number: int, launch: Launch) -> str:
    match number:
        case errno.ENOENT:
            return "its interpreter or dynamic loader is missing"
        case errno.EACCES:
            return f"user {launch.user} may not execute it: check the file and all directories above it"
        case errno.ENOEXEC:
            return "it is neither an ELF executable nor a script that begins with #!"
        case errno.E2BIG:
            return "arguments and environment are too large"
    return ""


def _explain_limit(number: int) -> tuple[str, str]:
    hard = resource.getrlimit(number)[1]
    hint = f"without CAP_SYS_RESOURCE no limit can be raised above the agent's own hard one ({hard})"
    return f"can't set the limit of {_LIMIT_NAMES.get(number, f'resource {number}')}", hint


def _ended_at_once(launch: Launch, status: int, written_before: int) -> LaunchError:
    code = os.waitstatus_to_exitcode(status)
    how = f"exited at once with status {code}" if code >= 0 else f"was killed at once by {_signal_name(-code)}"
    last = _last_line(launch.output, written_before)
    hint = f"its output is in {launch.output}"
    if code == 0:
        hint += "; if it put itself into the background, tell it to stay in the foreground"
    return LaunchError(f"{launch.executable} {how}" + (f": {last}" if last else ""), hint=hint)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _last_line(path: str, written_before: int) -> str:
    """The last line that has been written to `path` after its first `written_before` bytes; "" if none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""
        with open(path, "rb") as file:
            file.seek(max(written_before, _size(path) - _TAIL_BYTES))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1].strip()[:_LINE_CHARACTERS_MAX] if lines else ""
