"""One instance of a program, as its controller sees it: launched or following, activated, switched, ended.

The event loop's side. What touches the program or its shadow is done in the tracer thread by `Serving` (a primary) or
`Follower` (a mirror); this room carries requests there and results back, one at a time.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from agent.launch.adoption import find_running
from agent.launch.launching import launch, output_path, room_for_image_bytes
from agent.launch.mending import mend
from agent.launch.start import Started
from agent.mirror import takeover
from agent.mirror.double import make_double
from agent.mirror.follower import Follower
from agent.mirror.staging import Staging
from agent.mirror.subscription import Source, Subscription
from agent.mirror.succession import Succession
from agent.mirror.takeover import Takeover
from agent.network.connections import Connection, Expected
from agent.network.service_network import ServiceNetwork
from agent.primary.audience import ACK_S_MAX, Audience
from agent.primary.decisions import Report
from agent.primary.end import told
from agent.primary.serving import Serving
from agent.primary.serving_setup import make_serving
from agent.surroundings import Surroundings
from agent.tracing.prompt import Prompt
from agent.tracing.tracee import Tracee
from transport import control
from transport.checkpoint import NOTHING, PAGE_BYTES, Header, Records, Version
from transport.control import Activated, Failed, Held, Mirrored, Ok, Reply, Request, Settled
from transport.counters import Counters
from transport.errors import ControlError, KagemushaError, PreflightError
from transport.messages import Announce
from transport.session import MirrorSession

log = structlog.get_logger()
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

END_S_MAX = 10.0


class Instance:
    """Carries out the requests of `transport.control` for one program on one node."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.definition = around.definition
        self.name = f"{around.definition.program.id}@{around.node}"
        self.incarnation = time.time_ns()
        self.token = 0
        self.counters = Counters()
        self.serving: Serving | None = None
        self.follower: Follower | None = None
        self.subscription: Subscription | None = None
        self._succession: Succession | None = None
        self.fault = ""
        self.ended: Report | None = None
        self.fenced = False
        self._loop = asyncio.get_running_loop()
        self._prompt = Prompt(self._loop)
        self.audience = Audience(around.tracer, self._loop)
        self.audience.on_progress = self._progressed
        redirect = self.definition.redirect
        self._network: ServiceNetwork | None = None
        if redirect is not None and redirect.address:
            self._network = ServiceNetwork(self.name, redirect, around.track, self._loop)
        self._started: Started | None = None
        self._gone = asyncio.Event()
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    async def handle(self, request: Request) -> Reply:
        """Carry out one request but GetStatus. Raises KagemushaError for what is refused."""
        async with self._lock:
            match request:
                case control.Launch(token):
                    return await self._launch(token)
                case control.Adopt(pid, start_ticks, token):
                    return await self._adopt(pid, start_ticks, token)
                case control.Follow(host, port, node, token):
                    return await self._follow(Source(host, port, node), token)
                case control.GetReady(token, version):
                    return await self._get_ready(token, version)
                case control.Activate(token, version):
                    return await self._activate(token, version)
                case control.Switch():
                    return await self._switch()
                case control.Fence():
                    return await self._fence()
                case control.Resume(token):
                    return await self._resume(token)
                case control.Release():
                    return await self._release()
                case control.Terminate(grace_ms):
                    return await self._terminate(grace_ms)
                case _:
                    raise ControlError(f"{type(request).__name__} is not for an instance")

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
        if self.subscription is not None:
            await self.subscription.close()
        await self.around.tracer.call(self._let_go)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._network is not None:
            self._network.close()

    def _let_go(self) -> None:
        self.around.tracer.house(None)
        if self.follower is not None:
            self.follower.destroy()
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
        self._start_task(self._tell_end(report))

    async def _tell_end(self, report: Report) -> None:
        self.around.emit(await told(report, self.serving, self.audience))

    def _reaped(self) -> None:
        """The program's process is gone: so shall be its PID namespace."""
        started, self._started = self._started, None
        self._gone.set()
        if started is not None:
            self._start_task(asyncio.to_thread(self.around.spawner.end_namespace, started.init))

    async def _switch(self) -> Reply:
        serving = self._serving()
        try:
            await self.around.tracer.call(serving.hold)
            version = serving.publication.encoder.version
            async with asyncio.timeout(ACK_S_MAX):
                return Held(version, await self.audience.acknowledged(version, patient=True))
        except TimeoutError as error:
            await self._resume(self.token)
            raise ControlError(f"no mirror acknowledged the last checkpoint within {ACK_S_MAX:g} s") from error
        except KagemushaError:
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
        if self._succession is not None and self._succession.is_ready:
            # Another one goes on: what was made ready can't follow any more.
            await self.around.tracer.call(self._succession.abandon)
            if self._network is not None:
                self._network.disarm()
            self.follower = self._succession = None
        if self.subscription is not None:
            if self.follower is not None and self.subscription.source == source and self.subscription.token >= token:
                return Ok()
            await self.subscription.close()
        around = self.around
        subscription = Subscription(around.tracer, around.tls, self.counters, source, token)
        if self.follower is None:
            pages_max = room_for_image_bytes(self.definition) // PAGE_BYTES
            self.follower = Follower(
                MirrorSession(self.definition.program.id, token, self.counters),
                self.name,
                self.incarnation,
                self.definition.program.id,
                Staging(pages_max),
                partial(make_double, around.spawner, self.definition),
                subscription,
                self._mirrored,
                self._later(self._hopeless),
            )
        else:
            self.follower.redirect(subscription)
        self.token = max(self.token, token)
        try:
            await subscription.open(self.follower)
        except KagemushaError:
            self.follower = None
            raise
        self.subscription = subscription
        return Ok()

    def _hopeless(self, error: PreflightError) -> None:
        self.fault = error.what
        log.error("this node can't mirror the program", reason=error.what, hint=error.hint)
        self.around.emit(Failed(error.what, error.hint))
        if self.subscription is not None:
            self._start_task(self.subscription.close())

    def _mirrored(self, header: Header) -> None:
        """In the tracer thread."""
        held = Mirrored(self.name, self.incarnation, header.version, header.captured_ns)
        self._loop.call_soon_threadsafe(self.around.emit, held)
        if header.final and self._network is not None:
            self._loop.call_soon_threadsafe(self._network.listen)

    async def _get_ready(self, token: int, version: Version | None) -> Reply:
        if self.serving is not None:
            return Ok()
        succession = self._succeed(token)
        if self._network is not None:
            self._network.arm()
        await self._ascend(lambda: succession.make_ready(version))
        return Ok()

    async def _activate(self, token: int, version: Version | None) -> Reply:
        if self.serving is not None and self.token == token:
            return Ok()
        if self.serving is not None and self.serving.held and token > self.token:
            return await self._take_back(self.serving, token, version)
        succession = self._succeed(token)
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
        if self.subscription is not None:
            self._start_task(self.subscription.close())
            self.subscription = None
        outage_ms = max(time.time_ns() - header.captured_ns, 0) / 1e6
        opened = [*follower.held.opened, *taken.unfinished]
        # A primary that could tell its last has told of everybody.
        guesses = [] if header.final else follower.held.newcomers.guesses(time.monotonic() * 1000)
        self.follower = self._succession = None
        self._start_task(self._settle(taken.restored, opened, guesses, exact=header.final, outage_ms=outage_ms))
        return Ok()

    def _succeed(self, token: int) -> Succession:
        """The way of this mirror to become the primary under `token`."""
        follower = self.follower
        if follower is None:
            raise ControlError(f"{self.name} is no mirror")
        if token <= max(self.token, follower.session.token):
            raise ControlError(f"token {token} is not higher than {max(self.token, follower.session.token)}")
        if self._succession is None or self._succession.follower is not follower:
            overtaken = self._later(self._overtaken)
            self._succession = Succession(self.name, follower, self._network, self._prompt, overtaken)
        return self._succession

    def _overtaken(self) -> None:
        self._start_task(self._follow_anew())

    async def _follow_anew(self) -> None:
        """It was made ready, and its primary serves on."""
        async with self._lock:
            subscription, succession = self.subscription, self._succession
            if subscription is None or succession is None or not succession.is_ready:
                return
            log.warning("the primary serves on: its mirror, which was ready to take over, begins anew")
            try:
                await self._follow(subscription.source, subscription.token)
            except KagemushaError as error:
                self.around.emit(Failed(error.what, error.hint))

    async def _ascend(self, job: Callable[[], Result]) -> Result:
        """Run a part of it in the tracer thread; a failure is told of."""
        try:
            return await self.around.tracer.call(job)
        except KagemushaError as error:
            self.fault = error.what
            self.around.emit(Failed(error.what, error.hint))
            raise

    async def _take_back(self, held: Serving, token: int, version: Version | None) -> Reply:
        """The one that was to continue the held program did not come up: it goes on here, under a token of its own."""
        own = held.publication.encoder.version
        if version is not None and not own.is_or_follows(version):
            raise ControlError(f"{self.name} stands still at checkpoint {own}, not {version}")

        def again() -> None:
            tracee = held.checkpointer.tracee
            held.checkpointer.close()
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

    def _start_task(self, job: Coroutine[object, object, object]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
