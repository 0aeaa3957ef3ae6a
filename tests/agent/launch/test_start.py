"""Starting programs: those that run, and one clear line for each that can't."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import LaunchError
from agent.kernel import procfs
from agent.launch.spawn_request import Launch
from agent.launch.spawner import Spawner
from agent.launch.start import find_command, start

PATH = "/usr/bin:/bin"
NOBODY = 65534


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    with Spawner() as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(procfs.children(os.getpid()))
    yield
    assert set(procfs.children(os.getpid())) <= before


def script(line: str, **values: Any) -> Launch:
    return Launch("/bin/sh", ("sh", "-c", line), {"PATH": PATH}, **values)


def executable(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_a_program_that_stays_is_started(spawner: Spawner, tmp_path: Path) -> None:
    launch = script(
        "exec sleep 100",
        user=NOBODY,
        group=NOBODY,
        groups=(NOBODY,),
        directory="/usr",
        umask=0o027,
        limits={resource.RLIMIT_NOFILE: (100, 200), resource.RLIMIT_CORE: (0, 0)},
        output=str(tmp_path / "out"),
    )
    program = start(spawner, launch, settle_s=0.05)
    try:
        status = procfs.status(program.pid)
        assert status.namespace_pids[-1] == program.number == 77
        assert status.uids == status.gids == (NOBODY,) * 4
        assert status.groups == (NOBODY,)
        assert status.umask == 0o027
        assert procfs.read_link(program.pid, "cwd") == "/usr"
        limits = procfs.limits(program.pid)
        assert (limits[resource.RLIMIT_NOFILE].soft, limits[resource.RLIMIT_NOFILE].hard) == (100, 200)
        assert limits[resource.RLIMIT_CORE].hard == 0
    finally:
        os.close(program.pidfd)
        spawner.end_namespace(program.init, [program.pid])


def test_output_is_appended(spawner: Spawner, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_text("before\n")
    with pytest.raises(LaunchError, match=r"status 3: after$"):
        start(spawner, script("echo after >&2; exit 3", output=str(output)))
    assert output.read_text() == "before\nafter\n"


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        (script("exit 3"), "/bin/sh exited at once with status 3$"),
        (script("kill -SEGV $$"), "/bin/sh was killed at once by SIGSEGV$"),
        (script("x", directory="/nonexistent"), "working directory /nonexistent: No such file"),
        (script("x", output="/nonexistent/log"), "output file /nonexistent/log: No such file"),
        (script("x", input="/nonexistent"), "input file /nonexistent: No such file"),
        (script("x", user=NOBODY, directory="/root"), "working directory /root: Permission denied"),
        (script("x", cgroup="/nonexistent"), "can't join cgroup /nonexistent: No such file"),
        (script("x", network="/nonexistent"), "can't enter network namespace /nonexistent: No such file"),
        (Launch("/nonexistent", ("x",), {}), "can't start /nonexistent: No such file"),
        (Launch("/bin/sh", ("x",), {"A": "x" * 4_000_000}), "can't start /bin/sh: Argument list too long"),
    ],
)
def test_what_can_not_start_says_why(spawner: Spawner, launch: Launch, message: str) -> None:
    with pytest.raises(LaunchError, match=message) as error:
        start(spawner, launch)
    assert "\n" not in error.value.what
    assert error.value.hint


def test_a_limit_above_the_agents_own_says_so(spawner: Spawner) -> None:
    """Only as good as the machine: with CAP_SYS_RESOURCE it is granted."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    launch = script("exec sleep 100", limits={resource.RLIMIT_NOFILE: (hard + 1, hard + 1)})
    cap_sys_resource = 1 << 24
    if procfs.status(os.getpid()).capabilities[2] & cap_sys_resource:
        program = start(spawner, launch, settle_s=0.05)
        os.close(program.pidfd)
        spawner.end_namespace(program.init, [program.pid])
    else:
        with pytest.raises(LaunchError, match="limit of open files: Operation not permitted"):
            start(spawner, launch)


def test_success_at_once_hints_at_the_background(spawner: Spawner) -> None:
    with pytest.raises(LaunchError, match="exited at once with status 0") as error:
        start(spawner, script("exit 0"))
    assert "foreground" in error.value.hint


def test_commands_are_found(tmp_path: Path) -> None:
    assert find_command("sh", search_path=PATH).endswith("/sh")
    assert find_command("/bin/sh", search_path="") == "/bin/sh"
    own = executable(tmp_path / "own", b"#!/bin/sh\n")
    assert find_command("./own", search_path="", directory=str(tmp_path)) == own
    assert find_command("own", search_path=str(tmp_path)) == own


def test_what_is_no_command_says_why(tmp_path: Path) -> None:
    elf = b"\x7fELF"
    cases = {
        "nonexistent-kgm": "there is no command 'nonexistent-kgm' along",
        "/nonexistent/x": "/nonexistent/x does not exist",
        "/usr": "/usr is a directory",
        executable(tmp_path / "plain", b"#!/bin/sh\n", 0o644): "plain is not executable",
        executable(tmp_path / "small", elf + b"\x01" + bytes(60)): "small is a 32-bit executable",
        executable(tmp_path / "arm", elf + b"\x02" + bytes(13) + b"\xb7\0"): r"for another machine \(183\)",
        executable(
            tmp_path / "lost", b"#!/nonexistent/perl -w\n"
        ): "/nonexistent/perl, the interpreter of .*lost, does not",
    }
    for command, message in cases.items():
        with pytest.raises(LaunchError, match=message) as error:
            find_command(command, search_path=PATH)
        assert error.value.hint
