"""What a new process does between clone and exec. Runs in the spawner's child, before it is anything."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

from agent.kernel import mounts, namespaces
from agent.kernel.dispositions import set_default
from agent.kernel.libc import NR, call
from agent.launch.spawn_request import UNLIMITED, Launch, Request

_CLOSE_RANGE_CLOEXEC = 4
_DESCRIPTOR_MAX = 0xFFFF_FFFF
# SIGKILL and SIGSTOP can't be changed; 32 and 33 belong to the C library, which refuses to.
_LIBRARY_SIGNALS = frozenset({32, 33})
_FIXED_SIGNALS = frozenset({signal.SIGKILL, signal.SIGSTOP, *_LIBRARY_SIGNALS})


class Birth:
    """The steps of one birth; `stage` names the one that is being done, for the error message."""

    def __init__(self) -> None:
        self.stage = ""

    def program(self, launch: Launch) -> None:
        """Become a program; returns never, raises OSError or KernelError."""
        self._stage("session")
        os.setsid()
        if launch.cgroup is not None:
            self._stage("cgroup")
            with open(f"{launch.cgroup}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        self._namespaces(launch.network, own_proc=launch.own_proc)
        self._stage("input")
        source = os.open(launch.input, os.O_RDONLY | os.O_CLOEXEC)
        self._stage("output")
        sink = os.open(launch.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._limits(launch)
        self._oom_score(launch.oom_score)
        self._stage("user")
        if os.geteuid() == 0:  # Else the groups are the agent's, which nobody but root may change.
            os.setgroups(launch.groups)
        os.setresgid(launch.group, launch.group, launch.group)
        os.setresuid(launch.user, launch.user, launch.user)
        self._stage("directory")
        os.chdir(launch.directory)
        os.umask(launch.umask)
        self._stage("descriptors")
        for number, descriptor in ((0, source), (1, sink), (2, sink)):
            os.dup2(descriptor, number, inheritable=True)
        self._close_on_exec(from_number=3)
        self._signals()
        self._stage("exec")
        os.execve(launch.executable, launch.arguments, launch.environment)

    def stub(self, executable: int, request: Request) -> None:
        """Become the idle stub: process 1 of its PID namespace, or a shadow. It has no descriptors at all."""
        self._stage("session")
        os.setsid()
        if request.kind == "shadow":
            self._namespaces(request.network, own_proc=request.own_proc)
        os.chdir("/")
        os.umask(0)
        self._signals()
        if request.kind == "init":
            # Survives exec: the kernel then reaps what is orphaned to this process by itself.
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self._stage("exec")
        self._close_on_exec(from_number=0)
        # Process 1 of a namespace hears no SIGTERM. When the machine goes off, systemd waits a minute and a half for
        # who does not; not for what is named so (systemd, "Storage Daemons for the Root File System").
        mark = "@" if request.kind == "init" else ""
        os.execve(executable, [f"{mark}kgm-{request.kind}"], {})

    def _stage(self, name: str) -> None:
        self.stage = name

    def _namespaces(self, network: str | None, *, own_proc: bool) -> None:
        if network is not None:
            self._stage("network namespace")
            descriptor = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
            namespaces.setns(descriptor, namespaces.NETWORK)
        if own_proc:
            self._stage("mount of /proc")
            namespaces.unshare(namespaces.MOUNT)
            mounts.receive_only()
            mounts.mount_proc()

    def _limits(self, launch: Launch) -> None:
        for number, pair in launch.limits.items():
            self._stage(f"limit {number}")
            soft, hard = (resource.RLIM_INFINITY if value == UNLIMITED else value for value in pair)
            try:
                resource.setrlimit(number, (soft, hard))
            except ValueError as error:
                # Python's word for "not permitted".
                raise PermissionError(errno.EPERM, str(error)) from error

    def _oom_score(self, wanted: int | None) -> None:
        """An agent may have a score that keeps the kernel from it, which is not for the program to inherit."""
        self._stage("oom")
        path = Path("/proc/self/oom_score_adj")
        if wanted is not None and int(path.read_text(encoding="ascii")) != wanted:
            path.write_text(str(wanted), encoding="ascii")

    def _close_on_exec(self, from_number: int) -> None:
        call(NR.CLOSE_RANGE, from_number, _DESCRIPTOR_MAX, _CLOSE_RANGE_CLOEXEC, operation="close_range")

    def _signals(self) -> None:
        """Everything at its default and nothing blocked: Python itself ignores SIGPIPE, and an ignored signal
        survives exec."""
        self._stage("signals")
        for number in set(range(1, signal.NSIG)) - _FIXED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number in _LIBRARY_SIGNALS:
            set_default(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
