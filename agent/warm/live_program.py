"""The program as a process beside its agent: started in its role, watched until its end. In the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from agent.errors import KernelError, TraceeGone
from agent.kernel import pidfd, procfs
from agent.launch.adoption import find_running
from agent.launch.launching import launch
from agent.launch.spawner import Spawner
from agent.launch.start import Started
from agent.program import Definition
from agent.warm.leftover import end_leftover, remember
from transport.control import Role
from transport.errors import KagemushaError

KILLED: Final = 9
"""The wait status of a program that was another agent's child, where the kernel does not tell how it has ended."""
STOPPED_S: Final = 1.0
_LOOK_S: Final = 0.002
_WRITTEN_DOWN: Final = "program"


class LiveProgram:
    """One process, until its end. ended: told of its wait status, when it is reaped. gone: set by that, too.

    A process that is traced is reaped by its tracer, who says so by `finish`; else call `watch`.
    """

    def __init__(self, started: Started, spawner: Spawner, ended: Callable[[int], None]) -> None:
        self.pid = started.pid
        self.gone = asyncio.Event()
        self.is_stopped = False
        self._started = started
        self._spawner = spawner
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._pidfd = started.pidfd
        self._is_watched = False

    @classmethod
    async def start(
        cls,
        definition: Definition,
        directory: Path,
        spawner: Spawner,
        role: Role,
        path: Path,
        ended: Callable[[int], None],
    ) -> LiveProgram:
        """Start it in this role; path: of its socket. Raises LaunchError and its kin; nothing of it is left then."""
        told = {
            "KAGEMUSHA_ROLE": role,
            "KAGEMUSHA_SOCKET": str(path),
            "KAGEMUSHA_PROGRAM": definition.program.id,
        }

        def start() -> Started:
            end_leftover(directory / _WRITTEN_DOWN)
            started = launch(definition, directory, spawner, told)
            try:
                remember(directory / _WRITTEN_DOWN, started.pid, started.init)
            except KagemushaError:
                _end(started, spawner)
                raise
            return started

        return cls(await asyncio.to_thread(start), spawner, ended)

    @classmethod
    async def find(
        cls, definition: Definition, pid: int, start_ticks: int, spawner: Spawner, ended: Callable[[int], None]
    ) -> LiveProgram:
        """The one that runs without an agent. Raises ControlError."""
        started = await asyncio.to_thread(find_running, definition, pid, start_ticks)
        await asyncio.to_thread(spawner.mind, pid)
        return cls(replace(started, pidfd=pidfd.open_pidfd(pid)), spawner, ended)

    def watch(self) -> None:
        """Hear of its end, and reap it."""
        self._is_watched = True
        self._loop.add_reader(self._pidfd, self._readable)

    def finish(self, status: int) -> None:
        """It has ended and is reaped."""
        self.leave()
        # What it has forked ends with its namespace; a process that waits for a disk takes its time.
        self._loop.run_in_executor(None, partial(self._spawner.end_namespace, self._started.init, limit_s=None))
        self.gone.set()
        self._ended(status)

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self._pidfd >= 0:
            pidfd.send_signal(self._pidfd, number)

    async def stand(self) -> bool:
        """Let it stand still, by SIGSTOP; whether that was read back."""
        self.is_stopped = True
        self.kill(signal.SIGSTOP)
        limit_s = self._loop.time() + STOPPED_S
        while self._loop.time() < limit_s:
            if self.gone.is_set() or _is_stopped(self.pid):
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    def go_on(self) -> None:
        """Undo `stand`."""
        if self.is_stopped:
            self.is_stopped = False
            self.kill(signal.SIGCONT)

    async def end(self, limit_s: float) -> bool:
        """Kill it; whether it is gone within this time."""
        self.kill(signal.SIGKILL)
        return await self.waited(limit_s)

    async def waited(self, limit_s: float) -> bool:
        """Whether it is gone within this time."""
        try:
            async with asyncio.timeout(limit_s):
                await self.gone.wait()
        except TimeoutError:
            return False
        return True

    def leave(self) -> None:
        """Watch it no more; it runs on."""
        if self._pidfd >= 0:
            if self._is_watched:
                self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _readable(self) -> None:
        status = self._spawner.reap(self.pid)
        if status is None:
            status = pidfd.exit_status(self._pidfd, self.pid)
        self.finish(KILLED if status is None else status)


def _end(started: Started, spawner: Spawner) -> None:
    """Leave nothing of one that nobody watches."""
    pidfd.send_signal(started.pidfd, signal.SIGKILL)
    os.close(started.pidfd)
    spawner.reap(started.pid)
    spawner.end_namespace(started.init)


def _is_stopped(pid: int) -> bool:
    try:
        return procfs.stat(pid).state == "T"
    except TraceeGone:
        return True
    except KernelError:
        # It could not be looked at: that says nothing of it.
        return False


def how_it_ended(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"it exited with status {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"
