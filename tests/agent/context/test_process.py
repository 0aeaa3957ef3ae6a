"""The process as a whole: read once, told why it can't be mirrored, and its clocks."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.context import process
from agent.context.clocks import ProgramClocks
from agent.context.credentials import Credentials
from agent.context.record import unpack
from agent.errors import RestoreError
from agent.kernel import procfs, ptrace
from agent.kernel.vm import ProcessMemory
from agent.launch.spawner import Spawner
from agent.tracing.stopped import Stopped
from tests.agent.plain_copy import NUMBER, Original, build, launch, pump
from transport.checkpoint import Records

# nanosleep and clock_nanosleep: the program is through with its own start.
_SLEEPS = ("35", "230")


@pytest.fixture
def sleeper(spawner: Spawner, place: Path) -> Iterator[Original]:
    original = launch(
        spawner, "/bin/sleep", "100", output=place / "output", umask=0o027, directory="/usr", limits={7: (100, 200)}
    )
    try:
        pump(lambda _: Path(f"/proc/{original.pid}/syscall").read_text().split()[0] in _SLEEPS)
        yield original
    finally:
        original.kill()


def _capture(original: Original, previous: Records, *, refresh: bool) -> Records:
    memory = ProcessMemory(original.pid)
    try:
        stopped = Stopped(
            original.pid, original.threads, memory.file, -1, original.remote, previous, dying=False, refresh=refresh
        )
        return process.capture(stopped, ProgramClocks(original.pid))
    finally:
        memory.close()


def test_the_record_says_what_the_process_is(sleeper: Original) -> None:
    sleeper.stop()
    records = _capture(sleeper, {}, refresh=True)
    record = process.record_of(records)
    assert record.number == NUMBER
    assert record.executable == os.fsencode(os.path.realpath("/bin/sleep"))
    assert (record.directory, record.root, record.umask) == (b"/usr", b"/", 0o027)
    assert record.limits[7] == (100, 200)
    assert record.limits[9] == (-1, -1)
    assert record.dumpable == 1
    assert unpack(Credentials, record.credentials).uids == (0, 0, 0, 0)
    heap = next(one for one in procfs.mappings(sleeper.pid) if one.name == "[heap]")
    assert record.memory[5] == heap.end


def test_an_unchanged_process_has_the_same_bytes(sleeper: Original) -> None:
    sleeper.stop()
    first = _capture(sleeper, {}, refresh=True)
    assert _capture(sleeper, first, refresh=False)[process.KEY] is first[process.KEY]
    assert _capture(sleeper, first, refresh=True) == first


def test_a_shadows_clocks_go_on_where_the_programs_are(sleeper: Original) -> None:
    sleeper.stop()
    ahead = process.shadow_clocks(_capture(sleeper, {}, refresh=True))
    own = ProgramClocks(sleeper.pid).now_ns(1) - time.monotonic_ns()
    assert abs(ahead.monotonic_ns - own) < 50_000_000


def test_an_ordinary_program_can_be_mirrored(sleeper: Original) -> None:
    assert process.reasons_against(sleeper.pid) == []


def test_a_traced_program_can_not(sleeper: Original) -> None:
    ptrace.seize(sleeper.pid, 0)
    sleeper.seized.add(sleeper.pid)
    reasons = process.reasons_against(sleeper.pid)
    assert [reason.what for reason in reasons] == [f"already traced by process {os.getpid()}"]


def test_a_deleted_executable_or_directory_is_named(spawner: Spawner, place: Path) -> None:
    path, directory = place / "sleep", place / "here"
    shutil.copy("/bin/sleep", path)
    directory.mkdir()
    original = launch(spawner, str(path), "100", output=place / "output", directory=str(directory))
    try:
        path.unlink()
        directory.rmdir()
        reasons = {reason.what for reason in process.reasons_against(original.pid)}
        assert reasons == {"its executable was deleted", "its working directory was deleted"}
    finally:
        original.kill()


def test_a_directory_that_is_missing_on_this_node_is_named(spawner: Spawner, place: Path) -> None:
    directory = place / "here"
    directory.mkdir()
    original = launch(spawner, "/bin/sleep", "100", output=place / "output", directory=str(directory))
    try:
        original.stop()
        image = original.image()
        directory.rename(place / "elsewhere")
        with pytest.raises(RestoreError, match=f"chdir to {directory} in the shadow: No such file"):
            build(spawner, image)
    finally:
        original.kill()


def test_a_checkpoint_without_a_process_is_refused() -> None:
    with pytest.raises(RestoreError, match="without a process record"):
        process.record_of({})
