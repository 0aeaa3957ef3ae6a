"""Why a program has a new primary, in one of a few words: what metrics are counted by. Pure.

The reasons are lines for people, and of many kinds; what is not told apart here is an end of the program itself.
"""

from __future__ import annotations

import re
from typing import Final

from cluster.registry.commands import Promote

_CAUSES: Final = (
    (re.compile(r"node \S+ (?:is lost|did not come back)"), "node"),
    (re.compile(r"the agent on node"), "agent"),
    (re.compile(r"the program on node \S+ did not come up"), "start"),
    (re.compile(r"its primary is fenced"), "fenced"),
    (re.compile(r".*, [0-9]+ times in a row(?:$|;)"), "health"),
)
CAUSES: Final = ("planned", "forced", *(word for _, word in _CAUSES), "program")


def cause_of(command: Promote) -> str:
    """One of CAUSES."""
    if command.at_s == 0:
        return "planned" if command.reason == "a person asked for it" else "forced"
    return next((word for pattern, word in _CAUSES if pattern.match(command.reason)), "program")
