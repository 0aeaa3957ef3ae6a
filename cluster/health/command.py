"""Asking by a command: run, awaited, and ended with all that it started when nobody waits for it any more.

It is a session of its own, so its process group can be killed as a whole. One that leaves its group on purpose is not
held back; it belongs to the operator, as root does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from cluster.health.check import Exec
from transport.trust import other_writer

OUTPUT_BYTES_MAX: Final = 4096
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHOWN_CHARS: Final = 160


async def run(question: Exec, environment: Mapping[str, str]) -> str:
    """Why the command gives no good answer, "" where it does. Cancelled, it kills the command."""
    trouble = await _looked_at(question.command[0])
    return trouble or await _Run(question.command, environment).result()


_looking: Final[set[str]] = set()
"""Files whose file system has not answered yet: one thread waits for each, and no more."""


async def _looked_at(path: str) -> str:
    """Why this file can't or must not be started, "" where it may.

    In a thread that nobody waits for at the end: its file system may hang, and must then hang nobody else. Only a file
    that could be read is started, for that would keep the whole daemon waiting.
    """
    if path in _looking:
        return "its file system does not answer"
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()
    scheduling = os.sched_getscheduler(0), os.sched_getparam(0)

    def look() -> None:
        # As prompt as the event loop, which it could hold up else: a thread may be kept from the CPU as it holds the
        # interpreter.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, *scheduling)
        trouble = _trouble_with(path)
        _looking.discard(path)
        try:
            loop.call_soon_threadsafe(lambda: None if found.done() else found.set_result(trouble))
        except RuntimeError:
            return  # The loop was closed meanwhile.

    _looking.add(path)
    threading.Thread(target=look, daemon=True).start()
    return await found


def _trouble_with(path: str) -> str:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            file.read(OUTPUT_BYTES_MAX)
    except OSError as error:
        return f"can't be started: {error.strerror}"
    if os.geteuid() == 0 and other_writer(status):
        return "is not started: others than root can write it"
    return ""


class _Run:
    """One run of a command."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = command
        self._environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8", **environment}
        self._output = b""

    async def result(self) -> str:
        """Start it and wait for its end."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)  # The other end is the command's, and may make it wait.
        loop = asyncio.get_running_loop()
        try:
            try:
                pid = self._start(writing)
            except OSError as error:
                return f"can't be started: {error.strerror}"
            finally:
                os.close(writing)
            loop.add_reader(reading, self._read, reading)
            try:
                status = await self._ended(pid)
            finally:
                loop.remove_reader(reading)
            self._read(reading)
            return self._meaning(status)
        finally:
            os.close(reading)

    def _start(self, output: int) -> int:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        return os.posix_spawn(
            self._command[0],
            list(self._command),
            self._environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=range(1, signal.SIGRTMIN - 2),
        )

    async def _ended(self, pid: int) -> int:
        """Wait for its end; gives the exit code, negative for a signal. Kills its group in any case."""
        handle = os.pidfd_open(pid)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
            # Before it is reaped: until then nobody else can have its number.
            os.killpg(pid, signal.SIGKILL)
            # One that was killed has ended but for the rare wait for a disk, which must not be ours.
            reaped = _reap(pid)
            if reaped is None:
                loop.run_in_executor(None, os.waitpid, pid, 0)
        return reaped if reaped is not None else -signal.SIGKILL

    def _read(self, reading: int) -> None:
        try:
            while data := os.read(reading, OUTPUT_BYTES_MAX):
                self._output = (self._output + data)[-OUTPUT_BYTES_MAX:]
        except BlockingIOError:
            return
        asyncio.get_running_loop().remove_reader(reading)

    def _meaning(self, status: int) -> str:
        if status == 0:
            return ""
        lines = [line.strip() for line in self._output.decode(errors="replace").splitlines() if line.strip()]
        said = f": {lines[-1][:_SHOWN_CHARS]}" if lines else ""
        return f"ends with {'status' if status > 0 else 'signal'} {abs(status)}{said}"


def _reap(pid: int) -> int | None:
    """Its exit code, None while it has not ended."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None
