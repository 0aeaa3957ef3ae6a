"""One instance on this node: what the leader orders is carried out through its agent, whatever happens to that.

Orders may come twice: what is so already is done. Each is done before the next is begun. A primary serves only with a
lease (`tenure`), and an agent that dies is replaced: its program runs on meanwhile, its shadow is built anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from cluster.agents.around import Around
from cluster.agents.clients import Clients
from cluster.agents.jobs import Jobs, happened
from cluster.agents.kept_agent import KeptAgent
from cluster.agents.place import Place
from cluster.agents.process import AgentProcess
from cluster.agents.record import InstanceRecord, start_ticks_of
from cluster.agents.tenure import NoLease, Tenure
from cluster.config import host_and_port
from cluster.node.messages import Ended, HeldAt
from cluster.node.program import ProgramFile
from cluster.redirect.probe import AddressInUse
from cluster.registry.values import NodeId
from transport import control
from transport.checkpoint import Version
from transport.control import Status
from transport.errors import KagemushaError

log = structlog.get_logger()

POLL_S: Final = 2.0
DEATH_S: Final = 0.3
KILLED: Final = 9
"""The wait status of a program whose end nobody saw."""


class LocalInstance:
    """See the head of this file. Methods that are orders raise KagemushaError for what could not be done.

    in_hand: set once the watchdog goes by a lease that was granted to this daemon.
    """

    def __init__(self, around: Around, record: InstanceRecord) -> None:
        self.record = record
        self.place = Place(around.config, record.program)
        times = around.config.times.lease_times()
        self.tenure = Tenure(self.place, around.guard, times, around.ask_lease, self._program_file)
        self.clients = Clients(self.place, self._program_file, self._may_serve, around.changed)
        self.ended: Ended | None = None
        self.fence_id = self.failed = ""
        self._around = around
        self._timeline: tuple[tuple[str, int], ...] = ()
        self.agent_lost = self.serving = self.held = False
        self._file: ProgramFile | None = None
        self._lock = asyncio.Lock()
        self._exited = asyncio.Event()
        self.in_hand = asyncio.Event()
        self._jobs = Jobs(self.place.instance)
        self._kept = KeptAgent(self.place, around, self, self._lock, self._jobs)

    # ------------------------------------------------------------ what is known

    @property
    def agent(self) -> AgentProcess | None:
        """Its agent, None while there is none; `reason` says why."""
        return self._kept.process

    @property
    def reason(self) -> str:
        """Why it has no agent, or ""."""
        return self._kept.reason

    async def look(self) -> Status:
        """What its agent says of it. Raises ControlError."""
        if self.agent is None:
            raise KagemushaError(f"{self.place.instance} has no agent now", hint=self.reason or "ask again in a moment")
        return await self.agent.status(POLL_S)

    async def poll(self) -> None:
        """Ask the agent what the instance is, and tell if that has changed."""
        agent = self.agent
        if agent is None:
            return
        changed = await agent.poll(POLL_S)
        if agent.is_held and self.serving and not self.fence_id:
            self.held = True  # Nobody ordered that: it did so while it was left alone. See `_prolong`.
        if changed:
            if self.record.role == "mirror":
                self.tenure.prepare(agent.pid)
            self._around.changed()

    # ------------------------------------------------------------ orders

    async def start(self, config_file: str, token: int) -> tuple[tuple[str, int], ...]:
        """Start the program anew, as the primary."""
        async with self._lock:
            if self._serves(token):
                return ()
            self._refuse_below(token, "start")
            await self._end()
            await self._save(config_file=config_file, role="primary", token=token)
            try:
                await self._kept.have(config_file)
                await self._serve(token, control.Launch(token))
            except KagemushaError:
                await self._end()
                raise
            return ()

    async def activate(self, token: int, version: Version) -> tuple[tuple[str, int], ...]:
        """Become the primary, from this version or a later one of the same primary; gives the time line. Raises
        AddressInUse and NoLease, too: then it has kept all that it holds."""
        async with self._lock:
            if self._serves(token):
                return self._timeline
            self._refuse_below(token, "take over")
            # The original of a switchover, whose new primary did not come up, is as good as a mirror, and better.
            is_original = self.record.role == "primary" and self.held
            if self.agent is None or not (is_original or self.record.role == "mirror"):
                raise KagemushaError(f"{self.place.instance} is no mirror")
            await self.clients.see_free()
            before, fence_id = self.record, self.fence_id
            try:
                await self._serve(token, control.Activate(token, version))
                self.held = False
            except (AddressInUse, NoLease):
                # It was made ready at most, and nobody has seen it: it may be told again.
                self.record, self.fence_id, self.tenure.lease = before, fence_id, None
                await self._write()
                raise
            except KagemushaError:
                await self._end()
                raise
            return self._timeline

    async def mirror(self, config_file: str, node: NodeId, stream: str, token: int) -> None:
        """Follow that primary."""
        async with self._lock:
            if token < self.record.token or (token == self.record.token and self.record.role == "primary"):
                raise KagemushaError(f"{self.place.instance} knows token {self.record.token} already")
            if self.record.role == "primary" or self.failed:
                await self._end()
            await self._save(config_file=config_file, role="mirror", token=token, source=node, stream=stream)
            try:
                await self._follow()
                self._jobs.start(self.clients.prepare())
            except KagemushaError as error:
                self.failed = error.what
                self._around.changed()
                raise

    async def fence(self, token: int, fence_id: str) -> None:
        """Stop the primary under this token, and read it back."""
        async with self._lock:
            if self.record.token < token:
                # Whatever runs here is of an earlier token, and must not become one of this.
                await self._save(token=token)
            if self.record.role != "primary" or self.record.token != token:
                return
            self.fence_id = fence_id
            if self.ended is None or not self.ended.fenced:
                await self._fence()
            self._around.changed()

    async def hold(self, token: int, fence_id: str) -> HeldAt:
        """Stop the primary at a last checkpoint that a mirror holds."""
        async with self._lock:
            self._require_primary(token)
            agent = self._kept.require()
            async with self.clients.leaving(token):
                reply = await agent.request(control.Switch(), self._around.order_s)
            if not isinstance(reply, control.Held):
                raise KagemushaError(f"{self.place.instance}: Switch is answered with {type(reply).__name__}")
            self.fence_id, self.held = fence_id, True
            self._around.changed()
            return HeldAt(reply.version, reply.holders)

    async def serve_on(self, token: int, fence_id: str) -> None:
        """Undo `fence` or `hold` of this id."""
        async with self._lock:
            self._require_primary(token)
            if fence_id != self.fence_id:
                return
            self.fence_id = ""
            await self._go_on(token)
            self.held = False
            self._around.changed()

    async def let_go(self, token: int, reason: str = "the leader says so") -> None:
        """Another instance serves: end what is here under this token or a lower one."""
        async with self._lock:
            if self.record.role == "primary" and self.record.token <= token:
                log.warning("another instance serves", instance=self.place.instance, reason=reason)
                await self._end()

    async def stop(self, token: int) -> None:
        """End the program in order, as a person wants it; or the mirror."""
        async with self._lock:
            if self.record.token > token:
                return
            if self.record.role == "primary" and self.ended is None:
                grace_ms, agent = self._program_file().grace_ms, self._kept.require()
                if self.tenure.fencing is None and not self.fence_id:
                    await agent.request(control.Terminate(grace_ms), grace_ms / 1000 + self._around.order_s)
                self.ended = ended = Ended(token, KILLED, None, True, False, False, "a person stopped it")
                await self._end()
                self.ended = ended
            elif self.record.role == "mirror":
                await self._end()
            self._around.changed()

    async def forget(self) -> None:
        """End what is here, and its record."""
        async with self._lock:
            await self._end()
            await self.clients.forget()
            self.place.record.unlink(missing_ok=True)

    async def recover(self) -> None:
        """After a start of the daemon: find what a daemon before this one has left."""
        async with self._lock:
            if self.record.role == "none":
                return
            agent = await AgentProcess.find(self.place)
            if agent is None:
                self._kept.replace_soon()
                return
            self._kept.use(agent)
            await self.poll()
            status = agent.last_status
            if self.record.role == "primary":
                if status is None or status.role != "primary":
                    await self._found_dead("the daemon was restarted in the middle of a start or a takeover")
                elif status.status in ("failed", "stopped"):
                    await self._found_dead("the program ended while the daemon was restarted")
                else:
                    self.tenure.begin(self.record.token)
                    self.serving = True
                    await agent.leash(self._around.leash_ms)
                    await self.poll()
                    self._jobs.start(self.clients.claim(self.record.token))
            elif status is not None and status.role != "mirror":
                await self._end()

    async def close(self) -> None:
        """Leave everything as it is."""
        await self._jobs.close()
        await self.clients.close()
        await self._kept.close()

    # ------------------------------------------------------------ leases

    def granted(self, token: int, sent_s: float, granted_s: float) -> None:
        """The leader grants the lease that was asked for at `sent_s`."""
        if self.tenure.granted(token, sent_s, granted_s) and self._prolong(token):
            self.in_hand.set()

    def extended(self, token: int, sent_s: float, seconds: int) -> None:
        """It is agreed that the lease holds so long, as was asked for at `sent_s`."""
        if self.tenure.extended(token, sent_s, seconds):
            self._prolong(token)

    async def loosen(self, seconds: int) -> None:
        """The daemon leaves, and is back within this time."""
        if self.agent is not None and self.serving:
            await self.agent.leash(seconds * 1000 - self._around.last_checkpoint_ms)

    def _prolong(self, token: int) -> bool:
        if not self.serving or self.fence_id or self.ended is not None:
            return False
        self.tenure.extend(self.record.pid)
        if self.tenure.is_cut_off or self.held:
            self._jobs.start(self._back(token) if self.agent else self.clients.lead_back(token, self.tenure))
        return True

    def refused(self, token: int, reason: str, *, replaced: bool) -> None:
        """The leader does not grant it."""
        if replaced and self.record.role == "primary" and self.record.token == token:
            self._jobs.start(self.let_go(token, reason))

    async def _back(self, token: int) -> None:
        """There is a lease again, for a program that was stopped or held without one: it goes on, address and all."""
        async with self._lock:
            if self._serves(token) and not self.fence_id and (self.tenure.is_cut_off or self.held):
                await self._go_on(token)
                self.held = False
                self._around.changed()

    # ------------------------------------------------------------ inside; all of these have the lock

    def _serves(self, token: int) -> bool:
        record = self.record
        return record.role == "primary" and record.token == token and self.serving and self.ended is None

    def _may_serve(self) -> bool:
        return self._serves(self.record.token) and not self.fence_id and not self.held and self.tenure.may_serve

    def _refuse_below(self, token: int, what: str) -> None:
        if token <= self.record.token:
            raise KagemushaError(f"{self.place.instance} can't {what} under {token}: it knows {self.record.token}")

    def _require_primary(self, token: int) -> None:
        if not self._serves(token):
            raise KagemushaError(f"{self.place.instance} is not the primary under token {token}")

    def _program_file(self) -> ProgramFile:
        if self._file is None:
            self._file = self._around.read_program(Path(self.record.config_file))
        return self._file

    async def _save(self, **changes: object) -> None:
        self._note(**changes)
        await self._write()

    def _note(self, **changes: object) -> None:
        if changes.get("config_file", self.record.config_file) != self.record.config_file:
            self._file = None
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]
        self.place.make()

    async def _write(self) -> None:
        await asyncio.to_thread(self.record.save, self.place.record)

    async def _serve(self, token: int, request: control.Launch | control.Activate) -> None:
        """Let the agent make it a primary, with a lease."""
        agent = self._kept.require()
        self.ended, self.fence_id, self.failed, self._timeline = None, "", "", ()
        lease = self.tenure.begin(token)
        self._note(role="primary", token=token)
        self.tenure.gather(agent.pid)
        ready = self.tenure.be_ready(lease, self._write, lambda: agent.get_ready(request, self._around.order_s))
        await self.clients.arrive(ready, patient=isinstance(request, control.Launch))
        self.serving = True
        self.tenure.open()
        await agent.request(request, self._around.order_s)
        self._jobs.start(agent.leash(self._around.leash_ms))
        if not agent.serves():
            await self.poll()
        if pid := agent.pid:
            self.tenure.gather(pid)
            self._note(pid=pid, start_ticks=start_ticks_of(pid))
            self.tenure.extend(pid)
        await self.clients.claim(token)
        await self._write()
        log.info("the program serves here", instance=self.place.instance, token=token, pid=pid)
        self._around.changed()

    async def _go_on(self, token: int) -> None:
        """Thaw and claim the address, with a lease that holds."""
        await self.tenure.wait_for_lease(self.tenure.lease or self.tenure.begin(token))
        self.tenure.extend(self.record.pid)
        returns = await self.tenure.thawed()
        if self.agent is not None:
            await self.agent.request(control.Resume(token), self._around.order_s)
            await self.clients.claim(token)
            self.tenure.led_back(returns)

    async def _fence(self) -> None:
        """Have the watchdog stop it. Raises KagemushaError unless it was read back that it is still."""
        record = self.record
        is_still = await self.tenure.fence(record.token, record.pid, record.start_ticks)
        self.clients.let_go(record.token)
        if is_still:
            return
        if self.agent is None:
            raise KagemushaError(f"{self.place.instance}: it is not certain that it is still")
        # No freezer: the agent's own stop is confirmed, too, as long as the agent lives.
        await self.agent.request(control.Fence(), self._around.order_s)

    async def _end(self) -> None:
        """End whatever is here, without a word to clients. The address was dropped, or is by this."""
        self.tenure.lease, self.serving = None, False
        if self.record.role == "primary":
            await self._end_primary()
        await self._kept.quit()
        await self.tenure.unwatch()
        self.tenure.kill(self.record.pid, self.record.start_ticks)
        self.fence_id = self.failed = self.clients.taken = ""
        self.ended, self.agent_lost, self.held = None, False, False
        await self._save(role="none", pid=0, start_ticks=0, source="", stream="")
        self._around.changed()

    async def _end_primary(self) -> None:
        try:
            await self._fence()
        except KagemushaError as error:
            log.warning("a program is ended that may not be still", reason=error.what)
        await self.tenure.unwatch()
        agent = self.agent
        if self.held:
            # Its tracer keeps it still, and knows its sockets: Release ends it without a word.
            self.tenure.thaw(self.record.pid, self.record.start_ticks)
        elif self.ended is None:
            self._exited.clear()
            self.tenure.kill(self.record.pid, self.record.start_ticks)
            if agent is not None:
                # The dying program's sockets are taken from it before anybody else hears of its death.
                await happened(self._exited, DEATH_S)
        if agent is not None:
            try:
                await agent.request(control.Release(), self._around.order_s)
            except KagemushaError as error:
                log.info("nothing to release", instance=self.place.instance, reason=error.what)

    # ------------------------------------------------------------ the agent's life

    async def _follow(self) -> None:
        record = self.record
        agent = await self._kept.have(record.config_file)
        host, port = host_and_port(record.stream)
        await agent.request(control.Follow(host, port, record.source, record.token), self._around.order_s)
        self.failed = self.clients.taken = ""
        self._around.changed()

    @property
    def wants_agent(self) -> bool:
        """See `Ward`."""
        return self.record.role != "none" and self.ended is None

    async def losing(self) -> None:
        """See `Ward`."""
        if self.held and self.fence_id:  # Who was held by it runs again: another may serve by now.
            await self.tenure.fence(self.record.token, self.record.pid, self.record.start_ticks)
        self.held = False

    def lost(self) -> None:
        """See `Ward`."""
        self.agent_lost = self.record.role == "primary" and self.ended is None
        self._around.changed()

    def heard(self, event: control.Event) -> None:
        """See `Ward`."""
        token, agent = self.record.token, self._kept.require()
        match event:
            case control.Exited(status, final, fenced, last_gasp, reason, took_us, holders):
                self._exited.set()
                if self.record.role == "primary":
                    self.tenure.lease = None
                    self.clients.let_go(token)
                    self.ended = Ended(token, status, final, fenced, last_gasp, False, reason, took_us, holders)
                    log.info("the program ended", instance=self.place.instance, status=status, reason=reason)
                    self._around.changed()
            case control.Mirrored() if agent.heard(event):
                self._jobs.start(self.poll())
            case control.Activated(_, _, timeline):
                self._timeline = timeline
            case control.Failed(what, _) if self.record.role == "mirror":
                self.failed = what
                self._around.changed()

    async def again(self) -> None:
        """See `Ward`."""
        record = self.record
        if record.role == "mirror":
            await self._follow()
            return
        if not record.pid or start_ticks_of(record.pid) != record.start_ticks:
            await self._found_dead("its agent and the program are gone")
            return
        agent = await self._kept.have(record.config_file)
        await agent.request(control.Adopt(record.pid, record.start_ticks, record.token), self._around.order_s)
        await agent.leash(self._around.leash_ms)
        self.agent_lost, self.serving = False, True
        self.tenure.adopt(record.token)
        await self.poll()
        self._jobs.start(self._back(record.token))
        log.info("a program has an agent again", instance=self.place.instance, pid=record.pid)
        self._around.changed()

    async def _found_dead(self, reason: str) -> None:
        """The program is gone, and nobody saw how. It is fenced as soon as its address is known to be gone."""
        self.tenure.lease, self._kept.reason = None, ""
        try:
            await self._fence()
        except KagemushaError as error:
            self._kept.reason = error.what
        self.ended = Ended(self.record.token, KILLED, None, not self.reason, False, True, reason)
        self._around.changed()
