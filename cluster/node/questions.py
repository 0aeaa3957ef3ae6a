"""What a person asks of an instance on another node, and what its agent answers. Pure.

The other orders and answers are in `cluster.node.messages`, with the form of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.registry.values import ProgramId
from transport.context_schema import Context
from transport.control import Status
from transport.log_level import LevelName
from transport.structure_view import Structures


@dataclass(frozen=True, slots=True)
class Look:
    """All that is to be known of an instance, for a person. The answer is Seen."""

    program: ProgramId


@dataclass(frozen=True, slots=True)
class LookInside:
    """What an instance holds, made visible without its contents. The answer is SeenInside."""

    program: ProgramId


@dataclass(frozen=True, slots=True)
class LookAtStructures:
    """The named structures of an instance; see `transport.structure_view.GetStructures`. The answer is
    SeenStructures."""

    program: ProgramId
    name: str
    elements: int


@dataclass(frozen=True, slots=True)
class SetLogLevel:
    """Log so much on that node for so many seconds, its agents too. Done."""

    level: LevelName
    for_s: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What its agent says of an instance."""

    status: Status


@dataclass(frozen=True, slots=True)
class SeenInside:
    """The context that an instance holds."""

    context: Context


@dataclass(frozen=True, slots=True)
class SeenStructures:
    """The named structures that an instance holds."""

    structures: Structures
