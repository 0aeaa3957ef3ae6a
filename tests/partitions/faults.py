"""Which ways between machines a partition cuts, and on which side of it the clients are (pure).

A way is an ordered pair of machines: what the first sends does not reach the second. The clients are machines, too: one
is with the cut-off nodes, the other with the rest, and a client's ways are cut like those of its side.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "primary", "primary_in", "primary_out", "leader", "leader_in", "leader_out", "bridge", "flapping", "everybody"
]
KINDS: tuple[Kind, ...] = (
    "primary",  # the primary's node alone, both ways
    "primary_in",  # nothing reaches it
    "primary_out",  # nothing that it sends arrives
    "leader",  # the node that leads alone, whoever serves
    "leader_in",
    "leader_out",
    "bridge",  # the primary's node and another don't see each other; the third sees both
    "flapping",  # the primary's node alone, on and off
    "everybody",  # each node alone: nobody may serve
)
Way = tuple[str, str]
HERE, THERE = "client", "other"
"""The client with the cut-off node, and the client with the others."""
HOLD_S = (1.2, 2.5)
FLAP_S = (0.05, 0.7)
FLAPS = (3, 7)


@dataclass(frozen=True, slots=True)
class Fault:
    """One partition. ways: that are cut. holds_s: cut, whole, cut, ... in seconds, beginning and ending with cut.
    served: whether somebody has to serve while it lasts; False: nobody may."""

    kind: Kind
    node: str
    ways: frozenset[Way]
    holds_s: tuple[float, ...]
    served: bool


def fault(kind: Kind, primary: str, leader: str, nodes: tuple[str, ...], dice: random.Random) -> Fault:
    """The partition of this kind for a cluster with this primary and this leader."""
    node = leader if kind.startswith("leader") else primary
    others = tuple(one for one in nodes if one != node)
    holds_s: tuple[float, ...] = (dice.uniform(*HOLD_S),)
    match kind:
        case "bridge":
            far = dice.choice(others)
            # The clients: one sees the primary and the bridge, the other the far node and the bridge.
            ways = _between((node, HERE), (far, THERE))
        case "everybody":
            parties = ((node, HERE), (others[0], THERE), (others[1],))
            ways = frozenset(
                way for one in parties for another in parties if one is not another for way in _from(one, another)
            )
        case _:
            near, far_side = (node, HERE), (*others, THERE)
            outward, inward = _from(near, far_side), _from(far_side, near)
            ways = inward if kind.endswith("_in") else outward if kind.endswith("_out") else inward | outward
    if kind == "flapping":
        holds_s = tuple(dice.uniform(*FLAP_S) for _ in range(2 * dice.randint(*FLAPS) + 1))
    return Fault(kind, node, ways, holds_s, kind != "everybody")


def _from(senders: tuple[str, ...], receivers: tuple[str, ...]) -> frozenset[Way]:
    return frozenset((sender, receiver) for sender in senders for receiver in receivers)


def _between(some: tuple[str, ...], others: tuple[str, ...]) -> frozenset[Way]:
    return _from(some, others) | _from(others, some)
