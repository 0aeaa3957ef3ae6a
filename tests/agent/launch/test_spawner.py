"""Processes made by the spawner: whose children they are, in which namespaces, and what they start with."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import LaunchError
from agent.kernel import procfs, ptrace, wait
from agent.kernel.namespaces import TimeOffsets
from agent.kernel.pidfd import open_pidfd
from agent.launch import spawner as spawning
from agent.launch.spawn_request import Launch, Reply, Request
from agent.launch.spawner import BirthFailed, Spawner

SECOND_NS = 1_000_000_000


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    with Spawner() as found:
        yield found


class Namespace:
    """A PID namespace and what was made in it; all gone in the end."""

    def __init__(self, spawner: Spawner) -> None:
        self.spawner = spawner
        self.init = spawner.new_pid_namespace()
        self.members: list[int] = []

    def program(self, script: str, output: Path, offsets: TimeOffsets | None = None, *, number: int = 77) -> int:
        launch = Launch("/bin/sh", ("sh", "-c", script), {"PATH": os.environ["PATH"]}, output=str(output))
        pid = self.spawner.program(self.init, number, launch, offsets)
        self.members.append(pid)
        return pid

    def shadow(self, number: int = 77, offsets: TimeOffsets | None = None) -> int:
        pid = self.spawner.shadow(self.init, number, offsets)
        self.members.append(pid)
        return pid

    def say(self, script: str, output: Path, offsets: TimeOffsets | None = None) -> str:
        """What a program that ends by itself has written."""
        pid = self.program(script, output, offsets)
        assert self.spawner.reap(pid) == 0
        self.members.remove(pid)
        return output.read_text().strip()


@pytest.fixture
def namespace(spawner: Spawner) -> Iterator[Namespace]:
    found = Namespace(spawner)
    yield found
    spawner.end_namespace(found.init, found.members)
    assert spawner.reap(found.init) is None


def test_the_end_of_the_machine_does_not_wait_for_process_1_of_a_namespace(namespace: Namespace) -> None:
    """It hears no SIGTERM, so it has a name that systemd passes over; a shadow ends with its agent."""
    assert Path(f"/proc/{namespace.init}/cmdline").read_bytes() == b"@kgm-init\0"
    assert Path(f"/proc/{namespace.shadow()}/cmdline").read_bytes() == b"kgm-shadow\0"


def test_a_program_has_its_number_and_the_agent_for_a_parent(namespace: Namespace, tmp_path: Path) -> None:
    pid = namespace.program("exec sleep 100", tmp_path / "out")
    status = procfs.status(pid)
    assert status.parent == os.getpid()
    assert status.namespace_pids[-1] == 77
    assert (status.namespace_pgid, status.namespace_sid) == (77, 77)
    assert procfs.status(namespace.init).namespace_pids[-1] == 1
    assert procfs.namespace_inode(pid, "pid") == procfs.namespace_inode(namespace.init, "pid")


def test_a_program_starts_with_nothing_of_the_agent(namespace: Namespace, tmp_path: Path) -> None:
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        launch = Launch("/bin/sleep", ("sleep", "100"), {"A": "b"}, output=str(tmp_path / "out"))
        pid = namespace.spawner.program(namespace.init, 77, launch)
        namespace.members.append(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(held)
    while "nanosleep" not in procfs.read_text(pid, "wchan"):
        # Its dynamic loader still has libraries open.
        os.sched_yield()
    assert procfs.descriptors(pid) == [0, 1, 2]
    assert procfs.read_link(pid, "fd/0") == "/dev/null"
    assert procfs.read_link(pid, "fd/1") == procfs.read_link(pid, "fd/2") == str(tmp_path / "out")
    assert dict(procfs.descriptor_information(pid, 1))["flags"].endswith("2001")
    status = procfs.status(pid)
    assert (status.blocked, status.ignored) == (0, 0)
    assert procfs.command_line(pid) == ["sleep", "100"]
    assert procfs.read_text(pid, "environ") == "A=b\0"
    assert procfs.read_link(pid, "cwd") == "/"


def test_proc_shows_the_programs_own_namespace(namespace: Namespace, tmp_path: Path) -> None:
    assert namespace.say("echo $$; exec readlink /proc/self", tmp_path / "out").split() == ["77", "77"]
    assert os.readlink("/proc/self") == str(os.getpid())


def test_a_time_namespace_is_ahead_of_the_agents_own_clocks(namespace: Namespace, tmp_path: Path) -> None:
    offsets = TimeOffsets(1000 * SECOND_NS, 2000 * SECOND_NS)
    before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    uptime_s = float(namespace.say("cat /proc/uptime", tmp_path / "out", offsets).split()[0])
    assert before_s + 1999 < uptime_s < time.clock_gettime(time.CLOCK_BOOTTIME) + 2001
    # The next one, without offsets, does not get those of the one before.
    plain_s = float(namespace.say("cat /proc/uptime", tmp_path / "plain").split()[0])
    assert plain_s < time.clock_gettime(time.CLOCK_BOOTTIME) + 1


def test_a_shadow_is_an_empty_process(namespace: Namespace) -> None:
    pid = namespace.shadow(offsets=TimeOffsets(5 * SECOND_NS, 5 * SECOND_NS))
    assert procfs.descriptors(pid) == []
    status = procfs.status(pid)
    assert status.namespace_pids[-1] == 77
    assert (status.blocked, status.ignored, status.caught) == (0, 0, 0)
    own = [mapping for mapping in procfs.mappings(pid) if not mapping.name.startswith("[")]
    assert [(mapping.start, mapping.pages, mapping.permissions) for mapping in own] == [(0x20_0000, 1, "rwxp")]
    ptrace.seize(pid, ptrace.TRACESYSGOOD)
    ptrace.interrupt(pid)
    assert wait.wait_for(pid).is_interrupt


def test_orphans_are_reaped_by_process_one(namespace: Namespace, tmp_path: Path) -> None:
    """The stub does nothing: that SIGCHLD is ignored suffices for the kernel."""
    namespace.say("sleep 0.2 & exit 0", tmp_path / "out")
    (orphan,) = procfs.children(namespace.init)
    pidfd = open_pidfd(orphan)
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    assert ended.poll(10_000)
    os.close(pidfd)
    while os.path.exists(f"/proc/{orphan}"):
        os.sched_yield()
    assert procfs.status(namespace.init).ignored == 1 << (signal.SIGCHLD - 1)


def test_the_end_of_the_namespace_takes_all_with_it(spawner: Spawner, tmp_path: Path) -> None:
    namespace = Namespace(spawner)
    pids = [namespace.program("exec sleep 100", tmp_path / "out", number=number) for number in (77, 78)]
    spawner.end_namespace(namespace.init, namespace.members)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in (*pids, namespace.init))
    spawner.end_namespace(namespace.init)


def test_what_fails_is_named_and_leaves_no_process(namespace: Namespace) -> None:
    namespace.shadow(77)
    with pytest.raises(BirthFailed, match="EEXIST") as taken:
        namespace.shadow(77)
    assert taken.value.stage == "clone3"
    with pytest.raises(BirthFailed, match="ENOENT") as missing:
        namespace.spawner.program(namespace.init, 78, Launch("/nonexistent", ("x",), {}))
    assert missing.value.stage == "exec"
    assert not any(procfs.status(pid).namespace_pids[-1] == 78 for pid in procfs.children(os.getpid()))


def test_a_spawner_that_is_not_there_says_so() -> None:
    with pytest.raises(LaunchError, match="not been started"):
        Spawner().new_pid_namespace()


def test_requests_and_replies_survive_the_way() -> None:
    launch = Launch("/bin/x", ("x", "\udcff\n"), {"A": "1\n2"}, groups=(1, 2), limits={7: (1, -1)}, cgroup="/c")
    request = Request("program", 12, 77, (1, -2), launch)
    assert Request.decode(request.encode()) == request
    assert Request.decode(Request("init").encode()) == Request("init")
    reply = Reply(4, "exec", 2)
    assert Reply.decode(reply.encode()) == reply
    assert request.encode().count(b"\n") == 1


def test_a_helper_that_hangs_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawning, "_ANSWER_S", 0.05)
    others = set(procfs.children(os.getpid()))
    with Spawner() as spawner:
        (helper,) = set(procfs.children(os.getpid())) - others
        os.kill(helper, signal.SIGSTOP)
        with pytest.raises(LaunchError, match=r"helper has not answered for 0\.05 s"):
            spawner.new_pid_namespace()
    assert not Path(f"/proc/{helper}").exists()
