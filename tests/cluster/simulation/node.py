"""One simulated node: the real core, registry and leases, around an instance that is nothing but its states."""

from __future__ import annotations

from collections.abc import Callable

from cluster.leader import orders as o
from cluster.leader.failover import Failover
from cluster.leader.lease import LeaseTimes, ServingLease
from cluster.leader.news import (
    ActivateDone,
    ActivateFailed,
    Committed,
    FenceConfirmed,
    HealthChanged,
    InstanceEnded,
    InstanceReported,
    Leading,
    LeaseAsked,
    MirrorReported,
    News,
    NodeHeard,
    NotLeading,
    RegistryChanged,
    SwitchHeld,
    Tick,
)
from cluster.leader.selection import Held
from cluster.registry.commands import Command, Fenced, Promote, Started
from cluster.registry.state_machine import Registry
from tests.cluster.simulation.trace import Served
from tests.cluster.simulation.world import HEARTBEAT_S, Member, World
from transport.checkpoint import NOTHING, Version
from transport.control import InstanceStatus

PROGRAM = "p"
TIMES = LeaseTimes()


class Instance:
    """The program's instance on a node, and its agent. role: "none", "mirror" or "primary".

    fence: the order that keeps it still, "" when none does. activating: it may serve as soon as it has a lease.
    """

    def __init__(self, world: World, node: Node) -> None:
        self.world, self.node = world, node
        self.role, self.token, self.version, self.fence = "none", 0, NOTHING, ""
        self.fenced: dict[int, str] = {}
        self.alive, self.ready, self.captured_s = False, False, 0.0
        self.held = False
        self.ended: InstanceEnded | None = None
        self.lease = ServingLease(TIMES, 0)
        self.serving_since: float | None = None
        self.pids = 0
        self.unwell_until_s = 0.0
        """It does not answer its health checks until then; and after a fence nobody asks it."""

    def change(self) -> None:
        """Begin or end to serve as everything says by now."""
        serves = self.alive and self.ready and not self.fence and self.lease.may_serve(self.node.clock_s())
        if serves and self.serving_since is None:
            self.serving_since = self.world.now_s
            self.world.trace.stirs(self.token, self.node.name, self.world.now_s)
        elif not serves and self.serving_since is not None:
            span = Served(self.token, self.node.name, self.serving_since, self.world.now_s)
            self.world.trace.served.append(span)
            self.serving_since = None

    def watchdog(self) -> None:
        """The lease may have ended: stop, within the time that takes. It runs whatever the daemon does."""
        if self.serving_since is None or self.lease.may_serve(self.node.clock_s()):
            return
        token = self.token

        def stop() -> None:
            if self.token == token:
                self.change()

        self.world.after(self.world.random.uniform(0.0, TIMES.fence_s), stop)

    def granted(self, order: o.GrantLease) -> None:
        """A grant arrived."""
        now_s = self.node.clock_s()
        if self.lease.granted(now_s, order.token, order.sent_s, order.granted_s):
            self.world.trace.leases.append((order.token, self.node.name, self.node.true_s(self.lease.until_s)))
            self.change()
            self.world.after(self.node.true_s(self.lease.stop_at_s) - self.world.now_s + 1e-6, self.watchdog)

    def end(self) -> None:
        """The process is no more. What is reported of it is for as long as its token is the present one."""
        self.alive, self.ready = False, False
        self.change()
        self.world.trace.still(self.token, self.node.name, self.world.now_s)

    def become(self, role: str, token: int) -> None:
        """Another role or token; what was there ends."""
        if self.role == "primary" and self.alive:
            self.end()
        if role != self.role:
            self.pids += 1
            self.unwell_until_s = 0.0
        self.role, self.token, self.ended, self.ready = role, token, None, False
        self.alive, self.fence, self.held = role != "none", self.fenced.get(token, ""), False
        self.lease = ServingLease(TIMES, token)

    def take_back(self, token: int) -> None:
        """The program that is held here goes on under another token."""
        self.token, self.ready, self.held = token, False, False
        self.fence = self.fenced.get(token, "")
        self.lease = ServingLease(TIMES, token)

    def status(self) -> InstanceStatus:
        if self.role == "mirror":
            return "syncing" if self.version == NOTHING else "mirrored"
        if not self.alive:
            return "stopped"
        return "fenced" if self.fence else "running" if self.ready else "starting"


class Node:
    """A machine: clock, daemon, instance. hung_until_s: its daemon does nothing until then; its watchdog does."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        half = TIMES.drift / 2
        self.rate, self.offset_s = world.random.uniform(1 - half, 1 + half), world.random.uniform(100, 10_000)
        self.up, self.boot, self.hung_until_s, self.applied = True, 0, 0.0, 0
        self.registry = Registry()
        self.member = Member(world, self)
        world.nodes[name] = self
        self.reset()

    def reset(self) -> None:
        """What a boot leaves: the registry, and nothing that ran."""
        self.boot += 1
        self.instance = Instance(self.world, self)
        self.core = Failover(self.name, self.registry)
        self.ordered: set[str] = set()
        self.member.restart()
        self.every(0.010, self.member.tick)
        self.every(HEARTBEAT_S, self.report)
        self.every(HEARTBEAT_S, self.capture)

    def clock_s(self) -> float:
        """CLOCK_BOOTTIME here."""
        return self.world.now_s * self.rate + self.offset_s

    def true_s(self, clock_s: float) -> float:
        """When the clock here shows that."""
        return (clock_s - self.offset_s) / self.rate

    def every(self, period_s: float, action: Callable[[], None]) -> None:
        """Do this again and again, until the next boot."""
        boot = self.boot

        def again() -> None:
            if self.boot == boot and self.up:
                self.inbox(action)
                self.world.after(period_s, again)

        self.world.after(self.world.random.uniform(0, period_s), again)

    def inbox(self, action: Callable[[], None], *, is_timer: bool = False) -> None:
        """Do this when the daemon comes to it: one that wakes looks at its timers before it reads what has arrived."""
        boot = self.boot
        if self.world.now_s < self.hung_until_s:
            self.world.after(
                self.hung_until_s - self.world.now_s + (0.0 if is_timer else 1e-9),
                lambda: self.inbox(action, is_timer=is_timer) if self.boot == boot and self.up else None,
            )
        else:
            action()

    # ----------------------------------------------------------------------------------------------------- the group

    def leading(self, term: int, round_sent_s: float) -> None:
        """A quorum acknowledged a round."""
        until_s, heard_s = round_sent_s + TIMES.leader_lease_s, self.member.voters_heard_s
        self.tell(Leading(term, until_s, self.world.now_s + 1e9, heard_s))

    def deposed(self) -> None:
        """There is another leader."""
        self.tell(NotLeading())

    def apply(self, upto: int) -> None:
        """Apply the agreed entries up to there."""
        while self.applied < upto:
            command = self.world.log[self.applied]
            self.applied += 1
            result = self.registry.apply(command)
            if command.request_id in self.ordered:
                self.ordered.discard(command.request_id)
                self.tell(Committed(command, result))
            else:
                self.tell(RegistryChanged(str(getattr(command, "program", getattr(command, "program_id", "")))))

    def commit(self, command: Command) -> None:
        """Propose; without an outcome in time, say so."""
        self.ordered.add(command.request_id)
        boot = self.boot

        def give_up() -> None:
            if self.boot == boot and self.up and command.request_id in self.ordered:
                self.inbox(lambda: self.tell(Committed(command, None)))

        self.world.after(0.5, give_up)
        if isinstance(command, Fenced | Promote | Started) and self.world.random.random() < self.world.sabotage:
            self.world.isolate(self, self.world.random.uniform(0.5, 2.0))
        self.member.propose(command, self)

    # ------------------------------------------------------------------------------------------------------ the core

    def tell(self, news: News) -> None:
        """One event for the core, and its orders."""
        if not self.up:
            return
        for order in self.core.step(self.clock_s(), news):
            self.perform(order)
        deadline_s, boot = self.core.deadline_s, self.boot
        if deadline_s is not None:
            at_s = max(self.true_s(deadline_s), self.world.now_s + 0.0005)
            self.due_s = at_s

            def tick() -> None:
                if self.boot == boot and self.due_s == at_s:
                    self.inbox(lambda: self.tell(Tick()), is_timer=True)

            self.world.after(at_s - self.world.now_s + 1e-6, tick)

    due_s = 0.0

    def perform(self, order: o.Order) -> None:
        """Carry an order out, or send it where it is to be."""
        if isinstance(order, o.Commit):
            self.commit(order.command)
        elif isinstance(order, o.AskMirrors):
            for name in order.nodes:
                node = self.world.nodes[name]
                self.world.send(self, node, lambda node=node: node.say_held(self, asked=True))  # type: ignore[misc]
        elif isinstance(order, o.Answer | o.Note):
            self.world.trace.faults.append(f"{self.world.now_s:.3f} {self.name} {order}")
        else:
            node = self.world.nodes[order.node]
            self.world.send(self, node, lambda: node.obey(self, order))

    def to_leader(self, news: News) -> None:
        """Tell whoever is believed to lead."""
        leader = self.member.leader
        if leader is not None:
            self.world.send(self, leader, lambda: leader.tell(news))

    def report(self) -> None:
        """The heartbeat, and all that it carries."""
        one = self.instance
        self.to_leader(NodeHeard(self.name))
        entry = self.registry.programs.get(PROGRAM)
        mine = None if entry is None or entry.primary != self.name else entry.primary_instance
        if entry is not None and mine is not None and one.role == "none" and mine.status != "starting":
            self.to_leader(InstanceEnded(PROGRAM, entry.token, self.name, 9, None, True, "the node was restarted"))
        if one.role == "none":
            return
        role, fence = ("primary" if one.role == "primary" else "mirror"), one.fence
        self.to_leader(
            InstanceReported(PROGRAM, self.name, role, one.status(), self.pid(), one.token, fence_id=fence)  # type: ignore[arg-type]
        )
        self.say_held(None, asked=False)
        if one.ended is not None:
            self.to_leader(one.ended)
        elif one.role == "primary" and one.alive:
            self.to_leader(LeaseAsked(self.name, PROGRAM, one.token, self.clock_s()))
            if one.unwell_until_s:
                unwell = self.world.now_s < one.unwell_until_s or bool(one.fence)
                self.to_leader(HealthChanged(PROGRAM, one.token, "it does not answer" if unwell else ""))

    def pid(self) -> int:
        """The agent's incarnation: rises with every start of one, over boots too."""
        return self.boot * 1000 + self.instance.pids

    def say_held(self, asker: Node | None, *, asked: bool) -> None:
        """What the mirror here holds."""
        one = self.instance
        if one.role == "mirror":
            held = Held(f"{PROGRAM}@{self.name}", self.pid(), one.status(), one.version, int(one.captured_s * 1e9))
            news = MirrorReported(PROGRAM, self.name, held, asked)
            if asker is None:
                self.to_leader(news)
            else:
                self.world.send(self, asker, lambda: asker.tell(news))
        elif asker is not None:
            status, version = ("fenced", one.version) if one.held and one.alive else ("stopped", NOTHING)
            held = Held(f"{PROGRAM}@{self.name}", self.pid(), status, version)  # type: ignore[arg-type]
            self.world.send(self, asker, lambda: asker.tell(MirrorReported(PROGRAM, self.name, held, asked)))

    # -------------------------------------------------------------------------------------------------- the instance

    def capture(self) -> None:
        """A checkpoint of what serves, sent to all mirrors."""
        if self.instance.serving_since is not None:
            self.checkpoint()

    def checkpoint(self) -> Version:
        """Take one, and send it."""
        one, rolled = self.instance, self.world.random.getrandbits(40)
        one.version = Version(one.token, one.version.number + 1, rolled)
        one.captured_s = self.world.now_s
        version, at_s = one.version, one.captured_s
        self.world.trace.complete.add((self.name, version))
        for node in self.world.nodes.values():
            if node is not self:
                self.world.send(self, node, lambda node=node: node.receive(version, at_s))  # type: ignore[misc]
        return version

    def receive(self, version: Version, captured_s: float) -> None:
        """A checkpoint arrived, complete and verified."""
        one = self.instance
        if one.role == "mirror" and one.token == version.token and one.captured_s < captured_s:
            one.version, one.captured_s = version, captured_s
            self.world.trace.complete.add((self.name, version))

    def kill(self) -> None:
        """The process here is killed: a last checkpoint, and the news."""
        one = self.instance
        if one.role == "primary" and one.alive:
            final = self.checkpoint() if one.serving_since is not None else None
            one.end()
            one.ended = InstanceEnded(PROGRAM, one.token, self.name, 9, final, True, "killed")

    def crash(self, down_s: float) -> None:
        """The machine stops, and boots later."""
        if not self.up:
            return
        if self.instance.role == "primary":
            self.instance.end()
        self.up = False

        def boot() -> None:
            self.up = True
            self.reset()

        self.world.after(down_s, boot)

    def obey(self, leader: Node, order: o.Order) -> None:
        """Carry out an order of a leader, unless it is of an older token or overtaken."""
        one = self.instance
        match order:
            case o.GrantLease():
                one.granted(order)
            case o.RefuseLease() if order.replaced and order.token == one.token and one.role == "primary":
                one.become("none", one.token)
            case o.AskFence() if order.token >= one.token:
                self.hold(leader, order.token, order.fence_id, None)
            case o.SwitchOn() if order.token == one.token and one.role == "primary" and one.alive:
                version = one.version if one.fence == order.fence_id else self.checkpoint()
                news = SwitchHeld(PROGRAM, order.token, self.name, order.fence_id, version)
                self.hold(leader, order.token, order.fence_id, news)
            case o.ResumeOn() if one.fenced.get(order.token) == order.fence_id:
                del one.fenced[order.token]
                if one.token == order.token and one.alive:
                    one.fence, one.held = "", False
                    self.world.trace.stirs(order.token, self.name, self.world.now_s)
                    one.change()
            case o.ActivateOn() | o.RestartOn() if order.token >= one.token:
                self.activate(leader, order)
            case o.ReleaseOn() if one.role == "primary" and one.token <= order.token:
                one.become("none", one.token)
            case o.RebuildOn() if order.token >= one.token:
                if one.role != "mirror":
                    one.become("mirror", order.token)
                    one.version, one.captured_s = NOTHING, 0.0
                one.token = order.token
            case _:
                pass

    def hold(self, leader: Node, token: int, fence_id: str, held: SwitchHeld | None) -> None:
        """Be kept still by this order, and say so when it is so."""
        one = self.instance
        one.fenced[token] = fence_id
        if one.token == token:
            one.fence, one.held = fence_id, held is not None
        one.change()
        boot = self.boot

        def confirm() -> None:
            if self.boot == boot and self.up and one.fenced.get(token) == fence_id:
                self.world.trace.still(token, self.name, self.world.now_s)
                news = held or FenceConfirmed(PROGRAM, token, self.name, fence_id)
                self.world.send(self, leader, lambda: leader.tell(news))

        self.world.after(self.world.random.uniform(0, 0.02), confirm)

    def activate(self, leader: Node, order: o.ActivateOn | o.RestartOn) -> None:
        """Become the primary, once; say again that it was done."""
        one, boot = self.instance, self.boot
        if (one.role, one.token) != ("primary", order.token):
            if order.token == one.token and one.role == "none":
                return
            original = one.role == "primary" and one.held and one.alive and one.token < order.token
            if isinstance(order, o.ActivateOn) and original and one.version == order.version:
                self.world.trace.activated.append((self.name, order.token, order.version))
                one.take_back(order.token)
                self.activate(leader, order)
                return
            if isinstance(order, o.ActivateOn) and one.role != "mirror":
                news = ActivateFailed(PROGRAM, order.token, self.name, True, "no mirror is here")
                self.world.send(self, leader, lambda: leader.tell(news))
                return
            version = NOTHING
            if isinstance(order, o.ActivateOn):
                later = one.version.token == order.version.token and one.version.number > order.version.number
                version = one.version if later else order.version
                self.world.trace.activated.append((self.name, order.token, version))
            one.become("primary", order.token)
            one.version = version
        if not one.alive:
            return
        self.to_leader(LeaseAsked(self.name, PROGRAM, one.token, self.clock_s()))

        def serve() -> None:
            if self.boot != boot or not self.up or (one.role, one.token, one.alive) != ("primary", order.token, True):
                return
            if one.lease.may_serve(self.clock_s()) or one.ready:
                one.ready = True
                one.change()
                self.world.send(
                    self, leader, lambda: leader.tell(ActivateDone(PROGRAM, order.token, self.name, (("run", 1),)))
                )

        self.world.after(self.world.random.uniform(0.005, 0.03), serve)
