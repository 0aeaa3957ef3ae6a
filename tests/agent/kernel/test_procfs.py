"""/proc as plain values, of this very process and of others."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
import threading

import pytest

from agent.errors import TraceeGone
from agent.kernel import procfs

OWN = os.getpid()


def test_mappings_cover_what_is_mapped() -> None:
    with mmap.mmap(-1, 3 * 4096) as area:
        area[0] = 1
        found = procfs.mappings(OWN)
    assert [mapping.start for mapping in found] == sorted(mapping.start for mapping in found)
    stack = next(mapping for mapping in found if mapping.name == "[stack]")
    assert (stack.readable, stack.writable, stack.executable, stack.shared) == (True, True, False, False)
    code = next(mapping for mapping in found if mapping.name == os.path.realpath(sys.executable))
    assert code.inode == os.stat(sys.executable).st_ino
    assert code.pages == (code.end - code.start) // 4096
    assert procfs.vdso(OWN) in found


def test_names_with_spaces_and_deleted_files_are_kept() -> None:
    raw = b"00400000-00401000 r-xp 00000000 08:01 42                         /tmp/a b (deleted)\n"
    (mapping,) = procfs.parse_maps(raw)
    assert mapping.name == "/tmp/a b (deleted)"
    assert mapping.deleted
    assert (mapping.device, mapping.inode, mapping.offset) == ("08:01", 42, 0)


def test_the_raw_text_is_the_same_every_time() -> None:
    waits = "import time; print(flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    file = procfs.MapsFile(process.pid)
    try:
        assert file.read() == file.read() == procfs.read_bytes(process.pid, "maps")
        process.kill()
        process.wait()
        with pytest.raises(TraceeGone):
            file.read()
    finally:
        process.kill()
        process.wait()
        file.close()
        process.stdout.close()


def test_flags_of_mappings() -> None:
    stack = next(mapping for mapping in procfs.mappings(OWN) if mapping.name == "[stack]")
    flags = procfs.vm_flags(OWN)
    assert "gd" in flags[stack.start]
    assert len(flags) >= len(procfs.mappings(OWN)) - 5


def test_status_says_who_it_is() -> None:
    status = procfs.status(OWN)
    assert (status.pid, status.tgid, status.parent) == (OWN, OWN, os.getppid())
    assert status.uids == (*os.getresuid(), os.geteuid())
    assert status.ignored & 1 << (signal.SIGPIPE - 1)
    assert status.caught & 1 << (signal.SIGINT - 1)
    assert procfs.status_fields(OWN)["Name"] == status.name
    assert procfs.namespace_tid(OWN, OWN) == status.namespace_pids[-1]


def test_stat_survives_strange_names() -> None:
    program = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') R 1 (x', 0, 0, 0); print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        stat = procfs.stat(process.pid)
        assert stat.name == ") R 1 (x"
        assert stat.pid == process.pid
        assert stat.field(4) == OWN
        assert stat.start_ticks == stat.field(22) > 0
    finally:
        process.communicate(b"")


def test_limits_are_in_the_order_of_their_numbers() -> None:
    found = procfs.limits(OWN)
    assert len(found) == 16
    for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_STACK, resource.RLIMIT_MEMLOCK):
        soft, hard = (None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(number))
        assert (found[number].soft, found[number].hard) == (soft, hard)


def test_threads_are_listed_and_counted() -> None:
    directory = procfs.TaskDirectory(OWN)
    over = threading.Event()
    before = directory.count()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert thread.native_id is not None
    assert thread.native_id in procfs.tasks(OWN)
    assert procfs.has_task(OWN, thread.native_id)
    assert directory.count() == len(procfs.tasks(OWN)) == before + 1
    over.set()
    thread.join()
    directory.close()


def test_descriptors_are_listed_and_counted() -> None:
    reading, writing = os.pipe()
    assert {reading, writing} <= set(procfs.descriptors(OWN))
    assert procfs.descriptor_count(OWN) == len(os.listdir("/proc/self/fd")) - 1
    assert ("pos", "0") in procfs.descriptor_information(OWN, reading)
    assert procfs.read_link(OWN, f"fd/{reading}").startswith("pipe:")
    os.close(reading)
    os.close(writing)


def test_the_auxiliary_vector_knows_the_vdso() -> None:
    vector = procfs.auxiliary_vector(OWN)
    vdso = procfs.vdso(OWN)
    assert vdso is not None
    assert procfs.auxiliary_value(vector, procfs.AT_SYSINFO_EHDR) == vdso.start
    assert procfs.auxiliary_value(vector, 9999) is None


def test_timers_are_listed() -> None:
    assert procfs.timers(OWN) == []


def test_children_and_command_lines() -> None:
    process = subprocess.Popen(["/bin/sleep", "100"])
    try:
        assert process.pid in procfs.children(OWN)
        while not (found := procfs.command_line(process.pid)):
            # Popen has come back in the middle of the exec.
            os.sched_yield()
        assert found == ["/bin/sleep", "100"]
        assert procfs.namespace_inode(process.pid, "net") == procfs.namespace_inode(OWN, "net")
    finally:
        process.kill()
        process.wait()


def test_a_process_that_is_gone_is_a_value() -> None:
    process = subprocess.Popen(["/bin/true"])
    directory = procfs.TaskDirectory(process.pid)
    process.wait()
    for reader in (procfs.status, procfs.stat, procfs.mappings, procfs.tasks, procfs.descriptors, procfs.limits):
        with pytest.raises(TraceeGone):
            reader(process.pid)
    with pytest.raises(TraceeGone):
        directory.count()
    directory.close()
