"""The program of one warm instance: its process, its socket, its native structures, and its role. In the event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Final

import structlog

from agent.launch.identity import identity_of
from agent.structures.report import Refusal
from agent.structures.update import Update
from agent.surroundings import Surroundings
from agent.warm.live_program import LiveProgram
from agent.warm.native import Native, native_tables
from agent.warm.program_socket import ProgramSocket
from agent.warm.role_hooks import RoleHooks
from agent.warm.said import Complained, Declared, Demoted, Gone, Hello, Message, Promoted, Said, Wanted, Withdrawn
from transport.control import Role
from transport.errors import ControlError, KagemushaError

log = structlog.get_logger()

ROLE_S: Final = 3.0
"""So long a program may take for its functions for a new role; after that it is led its clients all the same."""
END_S: Final = 10.0


class WarmProgram:
    """One at a time; a mirror's may be started again.

    heard: told of all that it says. ended: of its end, by its wait status. captured: of updates of native structures,
    and when they were taken. welcome: role and token, for whoever connects.
    """

    def __init__(
        self,
        around: Surroundings,
        instance: str,
        heard: Callable[[Said], None],
        ended: Callable[[int], None],
        captured: Callable[[list[Update], int], None],
        welcome: Callable[[], tuple[Role, int]],
    ) -> None:
        self.declared: dict[str, Declared] = {}
        self.refused: dict[str, str] = {}
        self.native: Native | None = None
        self._live: LiveProgram | None = None
        self._around = around
        self._definition = around.definition
        self._instance = instance
        self._told = heard
        self._ended = ended
        self._captured = captured
        self._role = welcome
        self._answers: dict[type, asyncio.Future[None]] = {}
        path = around.track.with_suffix(".program")
        self.socket = ProgramSocket(path, identity_of(self._definition.program).uid, self._heard, self._welcome)
        self._hooks = RoleHooks(self._definition, instance)

    # ------------------------------------------------------------ its life

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self._live.pid if self._live is not None and not self._live.gone.is_set() else 0

    @property
    def is_still(self) -> bool:
        """Whether it was let stand still."""
        return self._live is not None and self._live.is_stopped

    async def start(self, role: Role) -> None:
        """Start it. Raises LaunchError and its kin; nothing of it is left then."""
        self._have_socket()
        around = self._around
        self.refused.clear()
        self.declared.clear()
        live = await LiveProgram.start(
            self._definition, around.directory, around.spawner, role, self.socket.path, self._ended
        )
        await self._have(live)

    async def find(self, pid: int, start_ticks: int) -> None:
        """Have the one that runs without an agent. Raises ControlError."""
        self._have_socket()
        live = await LiveProgram.find(self._definition, pid, start_ticks, self._around.spawner, self._ended)
        await self._have(live)

    def _have_socket(self) -> None:
        if not self.socket.is_open:
            self.socket.open()

    async def _have(self, live: LiveProgram) -> None:
        self._live = live
        if not native_tables(self._definition):
            live.watch()
            return
        try:
            self.native = await Native.attach(
                self._definition, self._around.tracer, live.pid, self._captured, self.refuse, live.finish
            )
        except KagemushaError:
            live.watch()
            await self.end()
            raise

    async def end(self) -> None:
        """Kill it. Raises ControlError when it does not end."""
        live = self._live
        if live is not None and not await live.end(END_S):
            raise ControlError(f"{self._instance} does not end, not even by SIGKILL", hint="is it waiting for a disk?")
        await self.forget_native()

    async def terminate(self, grace_s: float) -> None:
        """End it in order: SIGTERM, and SIGKILL after this time. Raises ControlError when it does not end."""
        live = self._live
        if live is not None:
            live.kill(signal.SIGTERM)
            await self.go_on()
            if not await live.waited(grace_s):
                await self.end()

    async def leave(self) -> None:
        """Let it run on, and listen to it no more."""
        if self.native is not None:
            await self.native.leave()
            self.native = None
        if self._live is not None:
            self._live.leave()
        await self.socket.close()

    async def forget_native(self) -> None:
        """It has ended, and all that was captured of it has been said."""
        native, self.native = self.native, None
        if native is not None:
            await native.leave()

    # ------------------------------------------------------------ still

    async def stand(self) -> bool:
        """Let it stand still, with the last of its native structures taken; whether it does."""
        live = self._live
        if live is None:
            return True
        if self.native is None:
            return await live.stand()
        await self.native.hold()
        live.is_stopped = True
        return True

    async def go_on(self) -> None:
        """Undo `stand`."""
        live = self._live
        if live is None or not live.is_stopped:
            return
        if self.native is None:
            live.go_on()
            return
        live.is_stopped = False
        await self.native.resume()

    # ------------------------------------------------------------ its role

    async def become(self, role: Role, token: int) -> bool:
        """Tell it its role, the hooks of its definition last; whether it has answered in time."""
        answered = True
        if self.socket.is_welcome:
            answered = await self._tell("promote" if role == "primary" else "demote", token)
        await self._hooks.run(role, token, self.pid)
        return answered

    async def _tell(self, kind: str, token: int) -> bool:
        answer = Promoted if kind == "promote" else Demoted
        future = self._answers[answer] = asyncio.get_running_loop().create_future()
        self.socket.send({"kind": kind, "token": token})
        try:
            await asyncio.wait_for(future, ROLE_S)
        except TimeoutError:
            return False
        finally:
            self._answers.pop(answer, None)
        return True

    def _welcome(self) -> Message:
        tables = [one for one in self._definition.structures if one.python is not None]
        role, token = self._role()
        intervals = [one.interval_ms for one in tables if one.interval_ms is not None]
        return {
            "instance": self._instance,
            "role": role,
            "token": token,
            "goes_on": True,
            "interval_ms": min(intervals, default=self._definition.mirror.interval_ms),
            "structures": [
                {"name": one.title, "python": one.python, "limit": one.size_mib_max << 20} for one in tables
            ],
        }

    # ------------------------------------------------------------ what it says

    def refuse(self, refusal: Refusal) -> None:
        """Something of one structure can't be done: say it, once."""
        name = refusal.structure or "native structures"
        if self.refused.get(name) != refusal.what:
            self.refused[name] = refusal.what
            log.warning("a structure is refused", structure=name, reason=refusal.what, hint=refusal.hint)
        if refusal.code in ("lost", "not-mirrorable"):
            self._told(Withdrawn(refusal.structure, refusal.what))
        if refusal.code == "diverged":
            self._told(Wanted(refusal.structure, None, refusal.what))

    def _heard(self, said: Said) -> None:
        match said:
            case Hello(structures=structures):
                self.declared = {one.structure: one for one in structures}
                log.info("the program is connected", runtime=said.runtime, structures=len(structures))
            case Declared():
                self.declared[said.structure] = said
                self.refused.pop(said.structure, None)
            case Withdrawn(structure, reason):
                self.declared.pop(structure, None)
                self.refused[structure] = reason
            case Complained(structure, code, what, hint):
                log.warning("the program says", structure=structure, code=code, reason=what, hint=hint)
            case Promoted(token) | Demoted(token):
                future = self._answers.get(type(said))
                if future is not None and not future.done() and token == self._role()[1]:
                    future.set_result(None)
            case Gone():
                log.info("the program is not connected any more")
            case _:
                pass
        self._told(said)
