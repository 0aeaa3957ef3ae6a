"""The instant at which a structure is consistent: all threads of its program stand still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeAlias

from agent.tracing.tracee import Tracee

Standstill: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Within this the program stands still."""


def by_tracing(
    tracee: Tracee,
    prompt: Callable[[], AbstractContextManager[None]],
    deadline_s: float,
    told: Callable[[float], object] | None = None,
) -> Standstill:
    """A stop of all threads, in the tracer thread. It raises CheckpointAbandoned when they do not stand within
    `deadline_s` seconds; the program runs on then.

    told: how long it took, in seconds, from the interruption of the first thread to the resumption of the last.
    """

    @contextmanager
    def standing() -> Iterator[None]:
        with prompt():
            begun_s = time.monotonic()
            tracee.stop(begun_s + deadline_s)
            try:
                yield
            finally:
                tracee.resume()
                ended_s = time.monotonic()
        if told is not None:
            told(ended_s - begun_s)

    return standing


def none() -> AbstractContextManager[None]:
    """`consistency = "none"`: the program runs on, and what is written meanwhile may be seen in part."""
    return nullcontext()
