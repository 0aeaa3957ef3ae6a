"""Running programs that can't be mirrored, each for real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.kernel import ptrace
from agent.kernel.procfs import Mapping
from agent.preflight.inspection import Inspection, inspect_process, mapped_files, mapping_reasons, require_process
from transport.errors import PreflightError


def inspect(pid: int) -> Inspection:
    """What is found where program.toml has no rules, without the pipes through which a test talks to the program."""
    found = inspect_process(pid, lambda _: None)
    return Inspection(found.refusals, [note for note in found.notes if "a pipe whose other end" not in note.what])


@contextmanager
def running(*command: str | Path) -> Iterator[int]:
    """The pid of a program that has written its first line; it is gone afterwards, with all that it started."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def python(code: str) -> list[str]:
    """A Python program that does something, says so, and waits."""
    return [
        sys.executable,
        "-c",
        f"import ctypes, os\nlibc = ctypes.CDLL(None)\n{code}\nos.write(1, b'here\\n')\nos.read(0, 1)",
    ]


def the_refusal(found: Inspection) -> str:
    """The only reason against, as a line."""
    assert len(found.refusals) == 1
    assert found.refusals[0].remedy
    return str(found.refusals[0])


def test_an_ordinary_program() -> None:
    with running("/bin/sh", "-c", "echo; read x") as pid:
        assert inspect(pid) == Inspection([], [])
        assert os.path.realpath("/bin/sh") in mapped_files(pid)


def test_a_program_that_is_traced() -> None:
    with running("/bin/sh", "-c", "echo; read x") as pid:
        ptrace.seize(pid, 0)
        line = the_refusal(inspect(pid))
    assert line == f"process {pid}: already traced by process {os.getpid()}"


def test_a_program_with_children() -> None:
    with running("/bin/sh", "-c", "sleep 1000 & sleep 1000 & echo; wait") as pid:
        found = inspect(pid)
    assert found.refusals == []
    assert [str(note) for note in found.notes] == [
        f"process {pid}: has 2 child processes: not mirrored yet; after a takeover the program sees them gone"
    ]


def test_a_program_under_seccomp() -> None:
    strict = "libc.prctl(22, 1, 0, 0, 0)"
    with running(*python(strict)) as pid:
        line = the_refusal(inspect(pid))
    assert line == f"process {pid}: seccomp"


def test_a_program_with_system_v_shared_memory() -> None:
    attach = """
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(0, 4096, 0o1600)
libc.shmat(segment, None, 0)
libc.shmctl(segment, 0, None)
"""
    with running(*python(attach)) as pid:
        line = the_refusal(inspect(pid))
    assert line == f"process {pid}: has mapped System V shared memory"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("assert libc.syscall(425, 4, bytes(120)) >= 0", "an io_uring instance"),
        ("assert libc.syscall(323, 1) >= 0", "a userfaultfd"),
        ("assert libc.inotify_init() >= 0", "an inotify instance"),
        ("import socket; raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "a packet socket"),
    ],
)
def test_descriptors_that_no_mirror_can_have(code: str, what: str) -> None:
    with running(*python(code)) as pid:
        line = the_refusal(inspect(pid))
    assert line.startswith("descriptor ")
    assert line.endswith(f" of process {pid}: {what}")


def test_a_file_to_be_written_needs_a_rule(tmp_path: Path) -> None:
    file = tmp_path / "data"
    with running(*python(f"file = open({str(file)!r}, 'w')")) as pid:
        found = inspect(pid)
        line = the_refusal(found)
        assert inspect_process(pid, {str(file): "local"}.get).refusals == []
    assert line.startswith(f"{file} (descriptor ")
    assert line.endswith(": a regular file open for writing without a rule")
    assert f'path = "{file}"' in found.refusals[0].remedy


def test_a_pipe_to_another_program_is_lost() -> None:
    with running("/bin/sh", "-c", "echo; read x") as pid:
        found = inspect_process(pid, lambda _: None)
    assert found.refusals == []
    assert [note.where for note in found.notes] == [f"descriptor {number} of process {pid}" for number in (0, 1)]


def test_a_program_whose_file_was_replaced(tmp_path: Path) -> None:
    program = tmp_path / "sh"
    shutil.copy("/bin/sh", program)
    with running(program, "-c", "echo; read x") as pid:
        program.unlink()
        shutil.copy("/bin/sh", program)
        notes = inspect(pid).notes
    assert [str(note) for note in notes] == [f"process {pid}: runs code of {program}, which has been replaced since"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("anon_inode:[io_uring]", "io_uring"),
        ("/[aio] (deleted)", "kernel asynchronous I/O"),
        ("/secretmem (deleted)", "secret memory"),
        ("/anon_hugepage (deleted)", "huge pages"),
        ("/dev/dri/card0", "the device /dev/dri/card0"),
    ],
)
def test_mappings_that_no_mirror_can_have(name: str, what: str) -> None:
    found = mapping_reasons("process 1", [Mapping(0x1000, 0x2000, "rw-s", 0, "00:0f", 1, name)] * 2)
    assert len(found) == 1
    assert str(found[0]).startswith(f"process 1: has mapped {what}")
    assert found[0].remedy


def test_ordinary_mappings_are_no_reason() -> None:
    names = ("", "[heap]", "[vdso]", "/dev/zero (deleted)", "/dev/shm/x", "/memfd:x (deleted)", "/usr/lib/x.so")
    assert mapping_reasons("process 1", [Mapping(0, 1, "rw-p", 0, "00:00", 0, name) for name in names]) == []


def test_a_process_that_is_not_there() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    for look in (require_process, inspect, mapped_files):
        with pytest.raises(PreflightError, match=f"there is no process {process.pid}"):
            look(process.pid)
