"""Puts the parts of a primary together around a tracee. Belongs to the tracer thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from agent.context.origin import OriginCapture
from agent.memory.image import Image
from agent.primary.checkpointer import Checkpointer
from agent.primary.context_capture import ContextCapture
from agent.primary.decisions import Primary, Report
from agent.primary.encoding import Encoder
from agent.primary.publication import Outlet, Publication
from agent.primary.samples import Samples
from agent.primary.serving import Serving
from agent.program import Definition
from agent.scout.scout import Scout
from agent.structures.sampled import sampled_tables
from agent.structures.standstill import by_tracing
from agent.tracing.tracee import Tracee
from transport.checkpoint import NOTHING, Records, Version

_REST_S: Final = 0.1
"""After a takeover clients come first, who have waited; then it is mirrored again, which takes a processor for long."""


def make_serving(
    tracee: Tracee,
    definition: Definition,
    token: int,
    rule_for: Callable[[str], str | None],
    outlet: Outlet,
    *,
    prompt: Callable[[], AbstractContextManager[None]],
    scout: Scout,
    image_bytes_max: int,
    silence: Callable[[], None],
    drop_address: Callable[[], None],
    report: Callable[[Report], None],
    reaped: Callable[[], None],
    start: Version = NOTHING,
    records: Records | None = None,
) -> Serving:
    """The serving of a program that runs and is traced by this thread.

    start, records: the state that the program was taken over in, from which its other mirrors may go on.
    """
    mirror = definition.mirror
    encoder = Encoder(definition.program.id, token, Image(image_bytes_max), mirror.codec, start)
    if records is not None:
        encoder.history.seed(start.number, records)
    origin = OriginCapture(definition.program.id, definition.digest())
    checkpointer = Checkpointer(
        tracee, lambda: ContextCapture(tracee, rule_for, scout), encoder, origin, prompt=prompt, scout=scout
    )
    deadline_s = mirror.deadline_ms / 1000
    samples = Samples(tracee, by_tracing(tracee, prompt, deadline_s), token) if sampled_tables(definition) else None
    serving = Serving(
        checkpointer,
        Publication(encoder, () if start == NOTHING else (start,), outlet),
        Primary(mirror.interval_ms / 1000),
        deadline_s=deadline_s,
        silence=silence,
        drop_address=drop_address,
        report=report,
        reaped=reaped,
        begin_at_s=time.monotonic() + (_REST_S if start != NOTHING else 0.0),
        samples=samples,
    )
    checkpointer.between = serving.look_after
    return serving
