"""One agent process and the connection to it: started, or found by its control socket."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from cluster.agents.place import Place
from cluster.agents.ports import StreamPorts
from cluster.node.spawn import reap, spawn
from transport.checkpoint import NOTHING
from transport.control import (
    Activate,
    Event,
    GetReady,
    GetStatus,
    Hello,
    Launch,
    Mirrored,
    Quit,
    Reply,
    Request,
    SetLeash,
    Status,
)
from transport.control_socket import ControlClient
from transport.errors import ControlError

log = structlog.get_logger()

START_S: Final = 30.0
HELLO_S: Final = 5.0
QUIT_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.01
_TAIL_BYTES: Final = 4096


class AgentProcess:
    """An agent that answers. stream: where mirrors subscribe to it, `host:port`.

    last_status: what it said last of its instance. captured_ns: CLOCK_REALTIME of the stop in which the checkpoint was
    taken that it holds as a mirror, on the node where that was; 0: it holds none, or is no mirror.
    """

    def __init__(self, place: Place, client: ControlClient, events: AsyncIterator[Event], hello: Hello) -> None:
        self.place = place
        self.hello = hello
        self.stream = place.stream(hello.stream_port)
        self.last_status: Status | None = None
        self.captured_ns = 0
        self._client = client
        self._events = events

    @staticmethod
    async def find(place: Place) -> AgentProcess | None:
        """The agent that listens at the place's control socket; None when there is none that answers."""
        try:
            client = await ControlClient.connect(place.control)
        except ControlError:
            return None
        events = client.events()
        try:
            async with asyncio.timeout(HELLO_S):
                hello = await anext(events)
        except (TimeoutError, StopAsyncIteration):
            hello = None
        if not isinstance(hello, Hello) or hello.instance != place.instance:
            await client.close()
            return None
        return AgentProcess(place, client, events, hello)

    @staticmethod
    async def anew(
        place: Place, command: Sequence[str], config_file: str, ports: StreamPorts, after: int
    ) -> AgentProcess:
        """The same as `start`, when one that was forgotten has quit."""
        forgotten = await AgentProcess.find(place)
        if forgotten is not None:
            await forgotten.quit()
        return await AgentProcess.start(place, command, config_file, ports, after)

    @staticmethod
    async def start(
        place: Place, command: Sequence[str], config_file: str, ports: StreamPorts, after: int
    ) -> AgentProcess:
        """Start one of an incarnation above `after`, and wait until it answers. Raises ControlError, with its last
        words, when it does not."""
        try:
            with ports.reserved(place) as port:
                return await AgentProcess._start(place, command, config_file, port, after)
        except OSError as error:
            raise ControlError(f"{place.instance}: its agent can't be started: {error.strerror or error}") from None

    @staticmethod
    async def _start(place: Place, command: Sequence[str], config_file: str, port: int, after: int) -> AgentProcess:
        arguments = {
            "--config": config_file,
            "--node": place.config.node.id,
            "--directory": str(place.agent_directory),
            "--control": str(place.control),
            "--listen": place.stream(port),
            "--pki": place.config.node.pki,
            "--after": str(after),
        }
        words = [word for pair in arguments.items() for word in pair]
        place.make()
        written = place.agent_log.stat().st_size if place.agent_log.exists() else 0
        pid = spawn([*command, *words], place.agent_log, os.environ)
        limit_s = time.monotonic() + START_S
        while time.monotonic() < limit_s:
            code = reap(pid)
            if code is not None:
                hint = f"see {place.agent_log}"
                raise ControlError(
                    f"{place.instance}: its agent ends: {_last_words(place.agent_log, written)}", hint=hint
                )
            found = await AgentProcess.find(place)
            if found is not None:
                return found
            await asyncio.sleep(_LOOK_AGAIN_S)
        os.kill(pid, signal.SIGKILL)
        raise ControlError(
            f"{place.instance}: its agent does not answer within {START_S:g} s", hint=f"see {place.agent_log}"
        )

    async def request(self, message: Request, timeout_s: float) -> Reply:
        """Send a request; see `ControlClient.request`. Raises ControlError also when there is no reply in time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._client.request(message)
        except TimeoutError:
            name = type(message).__name__
            raise ControlError(f"{self.place.instance}: no reply to {name} within {timeout_s:g} s") from None

    async def status(self, timeout_s: float) -> Status:
        """What its instance is now. Raises ControlError."""
        reply = await self.request(GetStatus(), timeout_s)
        if not isinstance(reply, Status):
            raise ControlError(f"{self.place.instance}: GetStatus is answered with {type(reply).__name__}")
        return reply

    async def poll(self, timeout_s: float) -> bool:
        """Ask for the status; whether another one, or another process, is news. An agent that does not answer has none.

        Another checkpoint is none: heartbeats tell of it in their own time.
        """
        try:
            status = await self.status(timeout_s)
        except ControlError:
            return False
        before, self.last_status = self.last_status, status
        holds = status.version != NOTHING and status.role == "mirror"
        self.captured_ns = time.time_ns() - int(status.staleness_ms * 1e6) if holds else 0
        return before is None or (before.status, before.pid) != (status.status, status.pid)

    def heard(self, progress: Mirrored) -> bool:
        """Take in what it says of a mirror's progress; whether it must be asked what it is now: its status is another.

        Its own, as a mirror: from then on the version and its age are known without asking. One of its mirrors', as a
        primary: the first.
        """
        status = self.last_status
        if status is None or status.status != "mirrored":
            return True
        if progress.instance == self.place.instance:
            self.last_status, self.captured_ns = replace(status, version=progress.version), progress.captured_ns
        return False

    def serves(self) -> bool:
        """Its shadow has become the program, which has no mirror yet: known without asking. False: it had none."""
        status = self.last_status
        if status is None or not status.pid:
            return False
        self.last_status, self.captured_ns = replace(status, role="primary", status="running", mirrors=()), 0
        return True

    async def get_ready(self, request: Launch | Activate, timeout_s: float) -> None:
        """Have a mirror do ahead of this request what takes long and no client can see. Raises ControlError."""
        if isinstance(request, Activate):
            await self.request(GetReady(request.token, request.version), timeout_s)

    async def leash(self, after_ms: int) -> None:
        """See `control.SetLeash`. An agent that does not answer is as good as gone, which is noticed elsewhere."""
        try:
            await self.request(SetLeash(after_ms), HELLO_S)
        except ControlError as error:
            log.warning("an agent has no leash", reason=error.what)

    def renew_certificates(self) -> None:
        """Have it read its certificates again."""
        try:
            os.kill(self.hello.pid, signal.SIGHUP)
        except ProcessLookupError:
            pass  # The next one reads them at its start.

    @property
    def pid(self) -> int:
        """Of the program or its shadow, as far as it was told; 0: there is none."""
        return self.last_status.pid if self.last_status is not None else 0

    @property
    def is_held(self) -> bool:
        """Whether it said that it keeps its program still."""
        status = self.last_status
        return status is not None and status.role == "primary" and status.status == "fenced"

    def events(self) -> AsyncIterator[Event]:
        """Its events after Hello, until the connection ends."""
        return self._events

    async def close(self) -> None:
        """Close the connection; the agent stays."""
        await self._client.close()
        reap(self.hello.pid)

    async def quit(self) -> None:
        """End the agent: in order, and if that takes too long, by SIGKILL. Its shadow ends with it, a program does
        not. Raises ControlError where the node has no memory or descriptor for that: whether it has ended is not known.
        """
        try:
            handle = os.pidfd_open(self.hello.pid)
        except ProcessLookupError:
            await self._client.close()
            return
        except OSError as error:
            await self._client.close()
            raise ControlError(f"{self.place.instance}: its agent can't be ended: {error.strerror}") from None
        try:
            try:
                await self.request(Quit(), QUIT_S)
            except ControlError:
                pass
            await self._client.close()
            if not await _ended(handle, QUIT_S):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                await _ended(handle, QUIT_S)
        finally:
            os.close(handle)
            reap(self.hello.pid)


async def _ended(handle: int, limit_s: float) -> bool:
    """Wait for the end of the process behind a pidfd."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(limit_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
    return True


def _last_words(log: Path, written_before: int) -> str:
    """The last line that was added to a log; of a traceback the error alone."""
    with log.open("rb") as file:
        file.seek(max(written_before, log.stat().st_size - _TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.startswith("hint:")), "it said nothing")[:300]
