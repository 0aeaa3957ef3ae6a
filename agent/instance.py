"""One instance of a program, as its controller sees it: launched or following, activated, switched, ended.

The event loop's side. What touches the program or its shadow is done in the tracer thread by `Serving` (a primary) or
`Follower` (a mirror); this room carries requests there and results back, one at a time.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog

from agent.controlled import Controlled
from agent.kept_link import Source
from agent.launch.adoption import find_running
from agent.launch.launching import launch, output_path, room_for_image_bytes
from agent.launch.mending import mend
from agent.launch.start import Started
from agent.mirror import takeover
from agent.mirror.follower import Follower
from agent.mirror.following import Following
from agent.mirror.succession import Succession
from agent.mirror.takeover import Takeover
from agent.network.connections import Connection, Expected
from agent.primary.audience import ACK_S_MAX, Audience
from agent.primary.decisions import Report
from agent.primary.end import told
from agent.primary.sample_search import SampleSearch
from agent.primary.serving import Serving
from agent.primary.serving_setup import make_serving
from agent.structures.sampled import sampled_tables
from agent.surroundings import Surroundings
from agent.tracing.prompt import Prompt
from agent.tracing.tracee import Tracee
from transport import control
from transport.checkpoint import NOTHING, Header, Records, Version
from transport.control import Activated, Failed, Held, Mirrored, Ok, Reply, Settled
from transport.errors import ControlError, KagemushaError
from transport.messages import Announce

log = structlog.get_logger()
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

END_S_MAX = 10.0


class Instance(Controlled):
    """Mirrors a whole process."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.serving: Serving | None = None
        self.fault = ""
        self.ended: Report | None = None
        self.fenced = False
        self._prompt = Prompt(self._loop)
        self.audience = Audience(around.tracer, self._loop)
        self.audience.on_progress = self._progressed
        self._started: Started | None = None
        self._gone = asyncio.Event()
        self._search = SampleSearch(around.tracer, sampled_tables(self.definition))
        self._following = Following(
            around,
            self.name,
            self.incarnation,
            self.counters,
            self._network,
            alone=self._lock,
            prompt=self._prompt,
            failed=self._failed,
        )

    async def stand_still(self) -> None:
        """Nobody leads this agent any more: hold the program as for a switch, whatever comes of it."""
        async with self._lock:
            serving = self.serving
            if serving is None or serving.ended or serving.held:
                return
            try:
                await self.around.tracer.call(serving.hold)
            except KagemushaError as error:
                log.warning("nobody leads this agent, and the program is not held", reason=error.what, hint=error.hint)
                return
            version = serving.publication.encoder.version
            log.warning("nobody leads this agent: the program is held", version=str(version))

    async def close(self) -> None:
        """End the mirroring; a program that runs runs on, a shadow ends."""
        await self._following.close()
        await self._search.close()
        await self.around.tracer.call(self._let_go)
        await self._tasks.close()
        if self._network is not None:
            self._network.close()

    def _let_go(self) -> None:
        self.around.tracer.house(None)
        self._following.destroy()
        if self.serving is not None:
            self.serving.leave()

    # ------------------------------------------------------------ primary

    async def _launch(self, token: int) -> Reply:
        if self.serving is not None and self.token == token:
            return Ok()
        if self.serving is not None or self.follower is not None:
            raise ControlError(f"{self.name} is {self.role} already", hint="use another agent, or end this one")
        around = self.around
        started = await asyncio.to_thread(launch, self.definition, around.directory, around.spawner)
        self.token = token
        try:
            await around.tracer.call(lambda: self._serve(takeover.trace(started.pid)))
            if self._network is not None:
                await around.tracer.call(self._network.claim)
        except KagemushaError:
            self.serving = None
            await around.tracer.call(lambda: around.tracer.house(None))
            around.spawner.end_namespace(started.init)
            raise
        self._started = started
        log.info("the program runs", pid=started.pid, token=token)
        self._open()
        return Ok()

    async def _adopt(self, pid: int, start_ticks: int, token: int) -> Reply:
        if self.serving is not None and self.token == token:
            return Ok()
        if self.serving is not None or self.follower is not None:
            raise ControlError(f"{self.name} is {self.role} already", hint="use another agent, or end this one")
        started = await asyncio.to_thread(find_running, self.definition, pid, start_ticks)
        if what := await asyncio.to_thread(mend, started.pid, all_of_them=True):
            log.warning(what)
        await asyncio.to_thread(self.around.spawner.mind, started.pid)
        self.token = token
        try:
            await self.around.tracer.call(lambda: self._serve(takeover.trace(started.pid)))
        except KagemushaError:
            self.serving = None
            await self.around.tracer.call(lambda: self.around.tracer.house(None))
            raise
        self._started = started
        log.info("the program is watched again", pid=started.pid, token=token)
        self._open()
        return Ok()

    def _serve(self, tracee: Tracee, start: Version = NOTHING, records: Records | None = None) -> None:
        """In the tracer thread: be the primary of a traced program."""
        self.serving = make_serving(
            tracee,
            self.definition,
            self.token,
            self.rule_for,
            self.audience,
            prompt=self._prompt,
            scout=self.around.scout,
            image_bytes_max=room_for_image_bytes(self.definition),
            silence=self._network.silence if self._network is not None else lambda: None,
            drop_address=self._drop_address,
            report=self._later(self._program_ended),
            reaped=self._later(self._reaped),
            start=start,
            records=records,
        )
        self.around.tracer.house(self.serving)

    def _open(self) -> None:
        if self.serving is not None:
            self.audience.open(self.serving.publication)
            self._search.begin(self.serving.samples)
        if self._network is not None:
            self._network.announce_connections(self._announce)

    def _announce(self, opened: tuple[Connection, ...], closed: tuple[Connection, ...]) -> None:
        self.audience.announce(Announce(opened, closed))

    def _drop_address(self) -> None:
        """In the tracer thread."""
        if self._network is not None:
            self._network.drop()
        self.fenced = True

    def _program_ended(self, report: Report) -> None:
        self.ended = report
        log.info("the program has ended", end=report.end.value, status=report.status, why=report.why)
        self._tasks.start(self._tell_end(report))

    async def _tell_end(self, report: Report) -> None:
        self.around.emit(await told(report, self.serving, self.audience))

    def _reaped(self) -> None:
        """The program's process is gone: so shall be its PID namespace."""
        started, self._started = self._started, None
        self._gone.set()
        if started is not None:
            self._tasks.start(asyncio.to_thread(self.around.spawner.end_namespace, started.init))

    async def _switch(self) -> Reply:
        serving, was_fenced = self._serving(), self.fenced
        try:
            await self.around.tracer.call(serving.hold)
            version = serving.publication.encoder.version
            async with asyncio.timeout(ACK_S_MAX):
                return Held(version, await self.audience.acknowledged(version, patient=True))
        except TimeoutError as error:
            await self._resume(self.token)
            raise ControlError(f"no mirror acknowledged the last checkpoint within {ACK_S_MAX:g} s") from error
        except KagemushaError:
            if self.fenced and not was_fenced:  # Else nothing was begun, or somebody else's fence is not to be undone.
                await self._resume(self.token)
            raise

    async def _fence(self) -> Reply:
        serving = self._serving()

        def fence() -> None:
            self._drop_address()
            serving.freeze()

        await self.around.tracer.call(fence)
        return Ok()

    async def _resume(self, token: int) -> Reply:
        serving = self._serving()
        if token != self.token:
            raise ControlError(f"token {token} is not that of {self.name}, {self.token}")

        def resume() -> None:
            serving.resume()
            if self._network is not None:
                self._network.claim()
            self.fenced = False

        await self.around.tracer.call(resume)
        return Ok()

    async def _release(self) -> Reply:
        serving = self._serving(alive=False)
        await self.around.tracer.call(serving.release)
        if self._network is not None:
            self._network.end_stragglers_soon()
        return Ok()

    async def _terminate(self, grace_ms: int) -> Reply:
        serving = self._serving(alive=False)
        for number, patience_s in ((signal.SIGTERM, grace_ms / 1000), (signal.SIGKILL, END_S_MAX)):
            await self.around.tracer.call(lambda number=number: serving.terminate(number))  # type: ignore[misc]
            try:
                await asyncio.wait_for(self._gone.wait(), patience_s)
            except TimeoutError:
                continue
            return Ok()
        raise ControlError(f"{self.name} does not end, not even by SIGKILL", hint="is it waiting for a disk?")

    def _serving(self, *, alive: bool = True) -> Serving:
        if self.serving is None:
            raise ControlError(f"{self.name} is no primary", hint="ask the primary's agent")
        if alive and self.serving.ended:
            raise ControlError(f"the program of {self.name} has ended")
        return self.serving

    # ------------------------------------------------------------ mirror

    async def _follow(self, source: Source, token: int) -> Reply:
        if self.serving is not None:
            raise ControlError(f"{self.name} is the primary", hint="end it, or start another agent")
        self.token = max(self.token, token)
        await self._following.follow(source, token)
        return Ok()

    async def _get_ready(self, token: int, version: Version | None) -> Reply:
        if self.serving is not None:
            return Ok()
        succession = self._following.succeed(token, self.token)
        if self._network is not None:
            self._network.arm()
        await self._ascend(lambda: succession.make_ready(version))
        return Ok()

    async def _activate(self, token: int, version: Version | None) -> Reply:
        if self.serving is not None and self.token == token:
            return Ok()
        if self.serving is not None and self.serving.held and token > self.token:
            return await self._take_back(self.serving, token, version)
        succession = self._following.succeed(token, self.token)
        follower = succession.follower
        if self._network is not None:
            self._network.arm()
            self._network.clear()
        taken, header = await self._ascend(lambda: self._go_on(succession, token, version))
        timeline = tuple((step.name, step.duration_us) for step in taken.timeline)
        self.around.emit(Activated(token, header.version, timeline))
        log.info("the program goes on here", token=token, version=str(header.version), timeline=dict(timeline))
        for failed in taken.failed:
            log.warning("a connection could not be made again", reason=failed)
        self._open()
        outage_ms = max(time.time_ns() - header.captured_ns, 0) / 1e6
        opened = [*follower.held.opened, *taken.unfinished]
        # A primary that could tell its last has told of everybody.
        guesses = [] if header.final else follower.held.newcomers.guesses(time.monotonic() * 1000)
        self._following.end()
        self._tasks.start(self._settle(taken.restored, opened, guesses, exact=header.final, outage_ms=outage_ms))
        return Ok()

    async def _ascend(self, job: Callable[[], Result]) -> Result:
        """Run a part of it in the tracer thread; a failure is told of."""
        try:
            return await self.around.tracer.call(job)
        except KagemushaError as error:
            self._failed(error)
            raise

    def _failed(self, error: KagemushaError) -> None:
        self.fault = error.what
        self.around.emit(Failed(error.what, error.hint))

    async def _take_back(self, held: Serving, token: int, version: Version | None) -> Reply:
        """The one that was to continue the held program did not come up: it goes on here, under a token of its own."""
        own = held.publication.encoder.version
        if version is not None and not own.is_or_follows(version):
            raise ControlError(f"{self.name} stands still at checkpoint {own}, not {version}")

        def again() -> None:
            tracee = held.checkpointer.tracee
            held.checkpointer.close()
            if held.samples is not None:
                held.samples.close()
            self.token = token
            self._serve(tracee)
            if self.serving is not None:
                self.serving.held = True

        await self.around.tracer.call(again)
        self.audience.dismiss()
        self._open()
        log.info("the held program is taken back", token=token)
        return await self._resume(token)

    def _go_on(self, succession: Succession, token: int, version: Version | None) -> tuple[Takeover, Header]:
        """In the tracer thread."""
        taken, shadow, header = succession.go_on(version)
        records = succession.follower.held.records
        self.token = token
        self._started = Started(shadow.pid, shadow.init, shadow.number, -1)
        self._serve(taken.tracee, header.version, records)
        return taken, header

    async def _settle(
        self,
        restored: list[Expected],
        opened: list[Connection],
        guesses: list[Connection],
        *,
        exact: bool,
        outage_ms: float,
    ) -> None:
        if self._network is None:
            return
        outcome = await self._network.settle(restored, opened, exact=exact, outage_ms=outage_ms, guesses=guesses)
        log.info("connections after the takeover", outcome=str(outcome))
        self.around.emit(Settled(outcome.survived, outcome.reset + outcome.poked))

    # ------------------------------------------------------------ what is known

    @property
    def follower(self) -> Follower | None:
        """What it is as a mirror."""
        return self._following.follower

    @property
    def role(self) -> control.Role:
        """Primary or mirror; an instance that is neither yet is to become a mirror."""
        return "primary" if self.serving is not None else "mirror"

    def rule_for(self, path: str) -> str | None:
        """What to do with a regular file that the program has open for writing."""
        if path == str(output_path(self.around.directory, self.definition)):
            return "local"
        return self.definition.rule_for(path)

    def _progressed(self, instance: str, incarnation: int, version: Version) -> None:
        self.around.emit(Mirrored(instance, incarnation, version))

    def _later(self, job: Callable[Arguments, object]) -> Callable[Arguments, None]:
        """`job`, to be called in the tracer thread and run in the event loop."""

        def later(*arguments: Arguments.args, **_: Arguments.kwargs) -> None:
            self._loop.call_soon_threadsafe(job, *arguments)

        return later
