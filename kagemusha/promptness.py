"""Processes that others wait for go before ordinary ones, where that is allowed."""

from __future__ import annotations

import sys


def be_prompt() -> None:
    """See `agent.kernel.scheduling.be_prompt`. A container may forbid it: then it is as prompt as others let it be."""
    from agent.errors import KernelError
    from agent.kernel import scheduling

    try:
        scheduling.be_prompt()
    except KernelError as error:
        sys.stderr.write(f"{error.what}\nhint: {error.hint}\n")
