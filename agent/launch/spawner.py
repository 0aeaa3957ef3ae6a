"""The agent's side of the spawner: asks the helper for new processes, all of which become children of the agent.

Start it before the agent has threads or much memory. Who reaps: every process made here is a child of the thread that
called `start` (the helper's own parent); as long as nobody traces it, wait for it with `reap`; see `agent.kernel.wait`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from agent.errors import KernelError, LaunchError
from agent.kernel import namespaces, wait
from agent.kernel.namespaces import TimeOffsets
from agent.launch.spawn_request import NO_NAMESPACE, Launch, Reply, Request

END_S: Final = 10.0
"""How long the death of somebody who was sent SIGKILL may take."""
_ANSWER_S: Final = 30.0
"""The helper makes a process within milliseconds; a program's file may lie on a slow disk."""
_ROOT = Path(__file__).resolve().parents[2]
# Isolated and without site-packages: the helper needs the standard library and this package, and starts in 50 ms.
_HELPER = (
    "import sys; sys.path.insert(0, sys.argv[1]); from agent.launch.spawner_process import main; main(int(sys.argv[2]))"
)


class BirthFailed(KernelError):
    """A process could not be made; `stage` is the step that failed, `errno` why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.stage, "a new process", reply.errno)
        self.stage = reply.stage


class Spawner:
    """Makes processes through its helper. May be used by any thread, one request at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._own_offsets = TimeOffsets()

    def start(self) -> None:
        """Start the helper. The agent's namespaces, descriptors and limits of this moment are what its children get."""
        own, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-I", "-S", "-c", _HELPER, str(_ROOT), str(number)]
            null = subprocess.DEVNULL
            self._helper = subprocess.Popen(command, stdin=null, stdout=null, pass_fds=[number], start_new_session=True)
        own.settimeout(_ANSWER_S)
        self._connection = own
        self._stream = own.makefile("rwb")
        self._own_offsets = namespaces.time_offsets()

    def close(self) -> None:
        """End the helper; what it made lives on. Where it does not end by itself, it is killed."""
        if self._connection is not None and self._helper is not None:
            self._stream.close()
            self._connection.close()
            try:
                self._helper.wait(_ANSWER_S)
            except subprocess.TimeoutExpired:
                self._helper.kill()
                self._helper.wait()
            self._connection = self._helper = None

    def __enter__(self) -> Spawner:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def new_pid_namespace(self) -> int:
        """Make a PID namespace; gives the host pid of its process 1, which does nothing and whose death kills all
        others in it."""
        return self._ask(Request("init"))

    def program(self, init: int, number: int, launch: Launch, offsets: TimeOffsets | None = None) -> int:
        """Start a program as process `number` of the PID namespace of `init`; gives its host pid once its exec has
        succeeded. NO_NAMESPACE as `init`: as any process of the agent's own, and without other clocks.

        offsets: how far its clocks are ahead of the agent's own; None: not at all. Raises BirthFailed.
        """
        return self._ask(Request("program", init, number, self._absolute(offsets), launch))

    def shadow(
        self,
        init: int,
        number: int,
        offsets: TimeOffsets | None = None,
        *,
        network: str | None = None,
        own_proc: bool = True,
    ) -> int:
        """Make an idle process as process `number` of the PID namespace of `init`: leader of its session, signals at
        their defaults, no descriptors at all, one page of code (`agent.kernel.elf`); gives its host pid.

        offsets: as for `program`. network: path of a network namespace, None for the agent's own. own_proc: as in
        `Launch`. Raises BirthFailed.
        """
        return self._ask(Request("shadow", init, number, self._absolute(offsets), network=network, own_proc=own_proc))

    def mind(self, pid: int) -> None:
        """Should the agent die, the helper does for this running program what it does for those that were made here."""
        self._ask(Request("mind", number=pid))

    def reap(self, pid: int) -> int | None:
        """Wait for the end of a child that nobody traces; gives its raw status, None if it was reaped before."""
        return wait.reap(pid)

    def end_namespace(self, init: int, members: Iterable[int] = (), *, limit_s: float | None = END_S) -> None:
        """Kill a whole PID namespace and reap its process 1, and before it `members`, the agent's children in it.

        Process 1 does not end while another process of its namespace is unreaped (pid_namespaces(7)): name here all
        that are not traced, and let their tracer reap the others first. Raises KernelError ETIMEDOUT where one has not
        ended within `limit_s`; None: however long that takes.
        """
        if init == NO_NAMESPACE:
            return
        try:
            os.kill(init, signal.SIGKILL)
        except ProcessLookupError:
            return
        for pid in (*members, init):
            wait.reap(pid, limit_s)

    def _absolute(self, offsets: TimeOffsets | None) -> tuple[int, int] | None:
        if offsets is None:
            return None
        total = self._own_offsets + offsets
        return total.monotonic_ns, total.boottime_ns

    def _ask(self, request: Request) -> int:
        if self._connection is None:
            raise LaunchError("the spawner has not been started")
        with self._lock:
            what = "has died"
            try:
                self._stream.write(request.encode())
                self._stream.flush()
                line = self._stream.readline()
            except TimeoutError:
                what, line = f"has not answered for {_ANSWER_S:g} s", b""
            except OSError:
                line = b""
        if not line:
            hint = "restart the agent; the helper's last words are on the agent's standard error"
            raise LaunchError(f"the spawner's helper {what}", hint=hint)
        reply = Reply.decode(line)
        if reply.stage:
            if reply.pid:
                wait.reap(reply.pid)
            raise BirthFailed(reply)
        return reply.pid
