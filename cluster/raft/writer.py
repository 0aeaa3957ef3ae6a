"""Has the disk's work done in a thread of its own, for an asyncio event loop that must not wait for it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

from cluster.raft.disk import Batch, Disk


class Writer:
    """One batch at a time, until `close`. settled: called in the event loop with each batch that was performed.

    Loop and thread wake each other by eventfd(2): a queue and a future cost several times as much.
    """

    def __init__(self, disk: Disk, settled: Callable[[Batch], None]) -> None:
        self._disk = disk
        self._settled = settled
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._batch: Batch | None = None
        self._go = os.eventfd(0, os.EFD_CLOEXEC)
        self._over = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loop.add_reader(self._over, self._done)
        urgency = os.sched_getscheduler(0), os.sched_getparam(0), os.getpriority(os.PRIO_PROCESS, 0)
        # It starts now: later, there may be no time for it.
        self._thread = threading.Thread(target=self._work, args=urgency, name="disk", daemon=True)
        self._thread.start()

    def go(self) -> None:
        """Have done what was ordered, unless a batch is under way: then what was ordered follows it."""
        if self._closed:
            return
        batch = self._disk.take()
        if batch is not None:
            self._batch = batch
            os.eventfd_write(self._go, 1)

    def go_soon(self) -> None:
        """Like `go`, when what was just said to others is on its way: then their disks work at the same time."""
        if self._disk.is_waiting and not self._closed:
            # A message is written in the next turn of the loop, and leaves at its end.
            self._loop.call_soon(self._loop.call_soon, self.go)

    def close(self) -> None:
        """Begin nothing more. Blocks until what is under way is over."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._go, 1)
        self._thread.join()
        self._loop.remove_reader(self._over)
        os.close(self._go)
        os.close(self._over)

    def _done(self) -> None:
        os.eventfd_read(self._over)
        batch, self._batch = self._batch, None
        if batch is not None:
            self._settled(batch)
            self.go()

    def _work(self, policy: int, parameter: os.sched_param, nice: int) -> None:
        _be_as_urgent(policy, parameter, nice)
        while True:
            os.eventfd_read(self._go)
            batch = self._batch
            if batch is not None and not batch.is_over:
                batch.perform()
                os.eventfd_write(self._over, 1)
            if self._closed:
                return


def _be_as_urgent(policy: int, parameter: os.sched_param, nice: int) -> None:
    """A thread of less priority than the event loop's could hold the interpreter while it gets no processor."""
    try:
        os.sched_setscheduler(0, policy, parameter)
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError:
        pass  # it has what threads of this process get
