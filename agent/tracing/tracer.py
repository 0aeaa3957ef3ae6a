"""The one thread that owns ptrace.

ptrace belongs to a thread, not to a process (ptrace(2)), so everything that stops, reads or changes a tracee runs here:
captures of a primary, changes of a shadow, the takeover. The event loop hands it jobs and never touches a tracee.

The thread sleeps in sigtimedwait(2) on SIGCHLD, which every ptrace-stop raises, and on a private signal by which the
event loop wakes it. SIGCHLD must be blocked in every thread: call `block_signals()` before the first thread starts.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

Result = TypeVar("Result")

_WAKE = signal.SIGRTMIN
_SIGNALS = frozenset({signal.Signals.SIGCHLD, _WAKE})
_SLEEP_S_MAX = 0.5


class Resident(Protocol):
    """Who lives in the tracer thread: a primary's capture, a mirror's shadow, or nobody yet."""

    def wake(self, now_s: float) -> float | None:
        """Handle what is pending; return the CLOCK_MONOTONIC second of the next deadline, or None."""


def block_signals() -> None:
    """Block SIGCHLD and the wake-up signal in the calling thread and all threads that it will start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


class Tracer:
    """Runs jobs in the tracer thread and wakes its resident at child events and deadlines."""

    def __init__(self, *, on_failure: Callable[[BaseException], object]) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._resident: Resident | None = None
        self._on_failure = on_failure
        self._closing = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracer", daemon=True)

    def start(self) -> None:
        """Start the thread; when this returns it can be woken."""
        self._thread.start()
        self._ready.wait()

    def house(self, resident: Resident | None) -> None:
        """Let `resident` be woken from now on; only from within the tracer thread."""
        self._resident = resident

    def post(self, job: Callable[[], None]) -> None:
        """Run `job` in the tracer thread soon, from any thread, without waiting; it must not raise."""
        self._jobs.append(job)
        if self._thread.ident is not None and self._ready.is_set() and self._thread.is_alive():
            signal.pthread_kill(self._thread.ident, _WAKE)

    async def call(self, job: Callable[[], Result]) -> Result:
        """Run `job` in the tracer thread and give its result, or raise what it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def deliver(result: Result | None, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            try:
                result = job()
            except BaseException as error:
                loop.call_soon_threadsafe(deliver, None, error)
            else:
                loop.call_soon_threadsafe(deliver, result, None)

        self.post(run)
        return await future

    def close(self) -> None:
        """End the thread after the jobs that it already has. Tracees with EXITKILL die when the process ends."""

        def leave() -> None:
            self._closing = True

        self.post(leave)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        block_signals()
        self._ready.set()
        try:
            while not self._closing:
                self._turn()
        except BaseException as error:
            self._on_failure(error)

    def _turn(self) -> None:
        while self._jobs:
            self._jobs.popleft()()
        deadline_s = self._resident.wake(time.monotonic()) if self._resident is not None else None
        if self._jobs or self._closing:
            return
        sleep_s = _SLEEP_S_MAX if deadline_s is None else min(max(deadline_s - time.monotonic(), 0.0), _SLEEP_S_MAX)
        signal.sigtimedwait(_SIGNALS, sleep_s)
