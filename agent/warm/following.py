"""A mirror's side: what the primary sends goes into the warm program, and what that has is said. In the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from agent.mirror.follower import Held as Clients
from agent.structures.report import Refusal, Resync
from agent.structures.update import Applied, Update
from agent.warm.assembly import Aged, Assembly, begun
from agent.warm.intake import (
    Connected,
    Emptied,
    Give,
    GiveCurrent,
    Intake,
    IntakeEffect,
    IntakeEvent,
    Lacks,
    NoMore,
    Own,
    Reach,
    Reports,
    Say,
    Trouble,
)
from agent.warm.said import Complained, Declared, Gone, Hello, Said, Wanted, Withdrawn, update_frames
from agent.warm.subscription import Subscription
from agent.warm.warm_program import WarmProgram
from transport.errors import FrameError, KagemushaError
from transport.messages import Announce
from transport.structure_messages import (
    Change,
    Declare,
    Join,
    Mark,
    Piece,
    Reached,
    StructureMessage,
    Withdraw,
)

log = structlog.get_logger()


class Following:
    """One mirror; see `subscription.Taker`. reached: told of each mark that the program holds."""

    def __init__(
        self,
        program_id: str,
        instance: str,
        incarnation: int,
        program: WarmProgram,
        reached: Callable[[Mark], None],
    ) -> None:
        self.intake = Intake()
        self.clients = Clients()
        self.subscription: Subscription | None = None
        self._names = (program_id, instance, incarnation)
        self._program = program
        self._reached = reached
        self._assembly = Assembly()
        self._said: set[str] = set()

    # ------------------------------------------------------------ the primary

    def join(self) -> Join:
        """See `Taker`."""
        self._assembly = Assembly()
        self._perform(self.intake.step(Connected()))
        program_id, instance, incarnation = self._names
        return Join(program_id, instance, incarnation, self.intake.version)

    async def take(self, message: StructureMessage) -> None:
        """See `Taker`."""
        match message:
            case Declare():
                await self._compare(message)
                await self._event(message)
            case Withdraw() | Mark():
                await self._event(message)
            case Change():
                await self._updated(begun(self._assembly, message, self.intake.limit_bytes(message.structure)))
            case Piece(data):
                await self._updated(self._assembly.more(data))
            case Announce():
                self.clients.announced(message)
            case _:
                raise FrameError(f"a primary does not send {type(message).__name__}")

    def lost(self) -> None:
        """See `Taker`."""
        self._assembly = Assembly()

    async def _updated(self, aged: Aged | None) -> None:
        if aged is not None:
            await self._event(aged)

    async def _event(self, event: IntakeEvent) -> None:
        for effect in self.intake.step(event):
            match effect:
                case Give(update, _, native=True):
                    await self._write(update)
                case Give(update, age_us):
                    await self._program.socket.pour(update_frames(update, age_us))
                case _:
                    self._perform([effect])
        await self._program.socket.drain()

    async def _write(self, update: Update) -> None:
        """Write an update of a native structure into the program."""
        native = self._program.native
        answer = await native.apply(update) if native is not None else None
        match answer:
            case Applied(structure, version, state):
                self.has(structure, version, state)
            case Resync(structure, _, _, reason) if native is not None:
                held = (await native.holds()).get(structure)
                self._perform(self.intake.step(Lacks(structure, held, reason)))
            case Refusal():
                self._program.refuse(answer)
            case _:
                pass

    async def _compare(self, declare: Declare) -> None:
        """Whether a native structure of the primary has the layout that it has here; if not, say what differs."""
        native = self._program.native
        if native is None or not declare.native:
            return
        refusal = await native.compare(declare)
        if refusal is not None and refusal.code == "type-mismatch":
            self.intake.explain(refusal.structure, refusal.what)
            self.say(Trouble(refusal.structure, refusal.what, refusal.hint))

    async def receive_native(self) -> None:
        """Find the native structures of the program that was just started, and take what the primary sends of them."""
        native = self._program.native
        if native is None:
            return
        try:
            await native.find(self._program.refuse)
            declarations = await native.receive()
            for declare in tuple(self.intake.theirs.values()):
                await self._compare(declare)
        except KagemushaError as error:
            log.error("native structures are not received", reason=error.what, hint=error.hint)
            return
        for one in declarations:
            self.own(Own(one.structure, True, one.digest.encode(), None))

    # ------------------------------------------------------------ the program

    def heard(self, said: Said) -> None:
        """Take in what the program says."""
        match said:
            case Hello(structures=structures):
                for one in structures:
                    self.heard(one)
            case Declared(structure, kind, _, _, holds):
                self.own(Own(structure, False, kind, holds))
            case Withdrawn(structure, reason):
                self._perform(self.intake.step(NoMore(structure, reason)))
            case Applied(structure, version, state):
                self.has(structure, version, state)
            case Wanted(structure, held, reason):
                self._perform(self.intake.step(Lacks(structure, held, reason)))
            case Complained(structure, _, what, hint):
                self.say(Trouble(structure, what, hint))
            case Gone():
                # A process that lost its connection says hello again, with what it holds.
                pass
            case _:
                pass

    def own(self, own: Own) -> None:
        """The program has a structure."""
        self._perform(self.intake.step(own))

    def has(self, structure: str, version: int, state: bytes) -> None:
        """The program has a structure at this version now."""
        self._perform(self.intake.step(Reports(structure, (version, state))))

    def emptied(self) -> None:
        """The program has ended: whoever counts on this mirror is to know."""
        self._perform(self.intake.step(Emptied()))
        if self.subscription is not None:
            self.subscription.join_anew()

    def say(self, trouble: Trouble) -> None:
        """Tell people, once."""
        if trouble.what not in self._said:
            self._said.add(trouble.what)
            log.warning("structure", structure=trouble.structure, reason=trouble.what, hint=trouble.hint)

    def _perform(self, effects: list[IntakeEffect]) -> None:
        for effect in effects:
            match effect:
                case Say(message):
                    self._tell_primary(message)
                case GiveCurrent(versions, captured_ns):
                    age_us = max(time.time_ns() - captured_ns, 0) // 1000
                    self._program.socket.send({"kind": "current", "versions": versions, "age_us": age_us})
                case Reach(mark):
                    self._tell_primary(Reached(mark.version))
                    self._reached(mark)
                case Trouble():
                    self.say(effect)

    def _tell_primary(self, message: StructureMessage) -> None:
        if self.subscription is not None:
            self.subscription.say(message)
