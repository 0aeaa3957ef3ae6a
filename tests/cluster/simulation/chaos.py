"""Random faults, drawn from a seed, and the time after them in which everything must come to rest."""

from __future__ import annotations

import random
from dataclasses import dataclass

from cluster.leader.news import SwitchRequested
from cluster.registry.commands import CreateProgram, SetNode
from tests.cluster.simulation.node import PROGRAM, Node
from tests.cluster.simulation.world import World

NODES = ("n1", "n2", "n3")
QUIET_S = 8.0
KINDS = ("kill", "crash", "isolate", "cut", "hang", "slow", "switch", "heal")


@dataclass(frozen=True, slots=True)
class Ended:
    """A simulation that is over. serving: who serves at its end; promotions: how often a token was agreed."""

    world: World
    serving: tuple[str, ...]
    promotions: int


def new_world(seed: int) -> World:
    """A cluster that was just installed, with one program that is to start."""
    world = World(seed)
    for name in NODES:
        Node(world, name)
    for name in NODES:
        world.agree(SetNode(f"node-{name}", name, "10.0.0.1:1", "10.0.0.1:2"))
    world.agree(CreateProgram("create", PROGRAM, "/etc/p.toml", "ab" * 32, NODES))
    return world


def run_chaos(seed: int, faults: int = 12, kinds: tuple[str, ...] = KINDS, sabotage: float | None = None) -> Ended:
    """Start, break things at random, heal, wait. The same seed gives the same story. sabotage: None: by chance."""
    world = new_world(seed)
    dice = random.Random(seed ^ 0x5EED)
    world.run(3.0)
    world.sabotage = dice.choice([0.0, 0.1, 0.5]) if sabotage is None else sabotage
    for _ in range(faults):
        _break(world, dice, kinds)
        world.run(world.now_s + dice.choice([0.02, 0.1, 0.3, 0.6, 1.5]))
    return finish(world)


def finish(world: World) -> Ended:
    """Heal everything, wait, and close what is open."""
    world.cut.clear()
    world.slow = world.sabotage = 0.0
    world.run(world.now_s + QUIET_S)
    serving = tuple(node.name for node in world.nodes.values() if node.instance.serving_since is not None)
    for node in world.nodes.values():
        node.instance.ready = False
        node.instance.change()
    return Ended(world, serving, len(world.trace.granted))


def primary(world: World) -> Node:
    """The node that the registry names."""
    name = world.registry.programs[PROGRAM].primary
    return world.nodes[name or "n1"]


def leader(world: World) -> Node:
    """A node that believes to lead, if there is one."""
    return next((node for node in world.nodes.values() if node.up and node.member.leads), world.nodes["n1"])


def _break(world: World, dice: random.Random, kinds: tuple[str, ...]) -> None:
    victim = dice.choice([primary(world), primary(world), leader(world), world.nodes[dice.choice(NODES)]])
    kind = dice.choice(kinds)
    world.trace.faults.append(f"{world.now_s:.3f} {kind} {victim.name}")
    others = [node for node in world.nodes.values() if node is not victim]
    if kind == "kill":
        victim.kill()
    elif kind == "crash":
        victim.crash(dice.uniform(0.3, 3.0))
    elif kind == "isolate":
        world.isolate(victim, dice.uniform(0.1, 2.0))
    elif kind == "cut":
        world.cut.add(frozenset((victim.name, dice.choice(others).name)))
        world.after(dice.uniform(0.1, 2.0), world.cut.clear)
    elif kind == "hang":
        victim.hung_until_s = world.now_s + dice.uniform(0.05, 1.5)
    elif kind == "unwell":
        victim.instance.unwell_until_s = world.now_s + dice.uniform(0.05, 1.0)
    elif kind == "slow":
        world.slow = dice.choice([0.02, 0.2, 0.6])
    elif kind == "switch":
        asked = SwitchRequested(f"switch-{world.now_s}", f"{PROGRAM}@{dice.choice(NODES)}")
        leader(world).tell(asked)
        # Whoever has no answer asks again, and of the leader that there is then.
        for after_s in (0.7, 2.0):
            world.after(after_s, lambda: leader(world).tell(asked))
    else:
        world.cut.clear()
        world.slow = 0.0
