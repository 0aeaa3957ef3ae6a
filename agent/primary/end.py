"""What is told of a program's end: when the last checkpoint, if there is one, is known to be held by a mirror."""

from __future__ import annotations

import asyncio
import time

from agent.primary.audience import ACK_S_MAX, Audience
from agent.primary.decisions import Report
from agent.primary.serving import Serving
from transport.checkpoint import Version
from transport.control import Exited


async def told(report: Report, serving: Serving | None, audience: Audience) -> Exited:
    """The event for the controller. It waits for a mirror's acknowledgement, ACK_S_MAX at most."""
    if serving is None:
        return Exited(report.status, None, True, False, report.why)
    final: Version | None = None
    holders: tuple[str, ...] = ()
    reason = report.why
    if report.final:
        version = serving.publication.encoder.version
        try:
            async with asyncio.timeout(ACK_S_MAX):
                holders = await audience.acknowledged(version)
            final = version
        except TimeoutError:
            reason = f"no mirror acknowledged the last checkpoint within {ACK_S_MAX:g} s"
    took_us = round((time.monotonic() - serving.ended_s) * 1e6)
    return Exited(report.status, final, True, final is not None, reason, took_us=took_us, holders=holders)
