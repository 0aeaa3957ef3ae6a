"""What a member's disk is to do, in order, and how far it is: ordered here, done elsewhere, settled here.

Who orders does not wait: a disk may take seconds for what takes a millisecond else, and a member that waits is silent.
All that was ordered since is one batch, and the next one begins when that is durable (group commit). No threads and no
clock in here: `writer.py` has a batch done in a thread, the tests when they like.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cluster.raft.errors import StorageError

Work = Callable[[], None]


def _nothing() -> None:
    """Until a journal says what makes its file durable, and where nobody waits for the end of a work."""


class Batch:
    """Works that are done together; `number` is that of the last of them."""

    def __init__(self, number: int, works: list[tuple[Work, Work]], flush: Work) -> None:
        self.number = number
        self.error: StorageError | None = None
        self._works = works
        self._flush = flush
        self._over = threading.Event()

    def perform(self) -> None:
        """Do them, and make them durable. Blocks. What the disk refuses is in `error`; the rest is not done then."""
        try:
            for work, _ in self._works:
                work()
            self._flush()
        except StorageError as error:
            self.error = error
        except Exception as error:
            self.error = StorageError(f"the disk's work failed: {type(error).__name__}: {error}")
        finally:
            self._over.set()

    @property
    def is_over(self) -> bool:
        """Whether it was performed."""
        return self._over.is_set()

    def wait(self) -> None:
        """Wait until it was performed. Blocks."""
        self._over.wait()

    def tell(self) -> None:
        """Tell those who ordered that their works are done."""
        for _, done in self._works:
            done()


class Disk:
    """The orders of one member. ordered, durable: the number of the last work that was ordered, and that is done."""

    def __init__(self) -> None:
        self.ordered = 0
        self.durable = 0
        self.flush: Work = _nothing
        """What makes the works of a batch durable after the last of them; for the journal to set."""
        self._waiting: list[tuple[Work, Work]] = []
        self._under_way: Batch | None = None

    def order(self, work: Work, done: Work = _nothing) -> int:
        """Have `work` done after all that was ordered before; return its number. done: is called in `settle`."""
        self.ordered += 1
        self._waiting.append((work, done))
        return self.ordered

    def is_last(self, work: Work) -> bool:
        """Whether `work` is the last that was ordered, and nobody has taken it: what follows may be joined to it."""
        return bool(self._waiting) and self._waiting[-1][0] is work

    def joined(self) -> int:
        """Something was added to the last work; return the number of that."""
        self.ordered += 1
        return self.ordered

    @property
    def is_waiting(self) -> bool:
        """Whether there is something that nobody has taken yet."""
        return bool(self._waiting)

    def take(self) -> Batch | None:
        """Return all that waits, to be performed and settled; None when nothing does, or while a batch is under way."""
        if self._under_way is not None or not self._waiting:
            return None
        self._under_way, self._waiting = Batch(self.ordered, self._waiting, self.flush), []
        return self._under_way

    def settle(self, batch: Batch) -> None:
        """A batch was performed. Raises StorageError when the disk has refused a part of it."""
        if batch is not self._under_way:
            return  # `sync` has waited for it
        if batch.error is not None:
            raise batch.error
        self._under_way = None
        self.durable = batch.number
        batch.tell()

    def sync(self) -> None:
        """Have all done now. Blocks: for the start, the end, and whoever has no peers to be silent to. StorageError."""
        if self._under_way is not None:
            self._under_way.wait()
            self.settle(self._under_way)
        while (batch := self.take()) is not None:
            batch.perform()
            self.settle(batch)
