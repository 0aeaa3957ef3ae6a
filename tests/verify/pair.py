"""A program and its mirror in one process: the production capture, codec, session and shadow, without a network."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.context.origin import OriginCapture
from agent.kernel.wait import await_child_signal_free
from agent.launch.spawn_request import Launch
from agent.launch.spawner import Spawner
from agent.launch.start import Started, start
from agent.memory.image import Image
from agent.memory.verify import Verification, verify
from agent.mirror.double import ShadowDouble
from agent.mirror.follower import Follower
from agent.mirror.staging import Staging
from agent.mirror.takeover import trace
from agent.primary.checkpointer import Checkpointer
from agent.primary.context_capture import ContextCapture
from agent.primary.encoding import Encoded, Encoder
from agent.scout.scout import Scout
from agent.tracing.tracee import Tracee
from agent.tracing.tracer import block_signals
from tests.agent.scouting import PatientScout
from tests.verify.programs import Program
from transport.checkpoint import PAGE_BYTES, Records, Version
from transport.errors import PreflightError
from transport.messages import Ack, Refuse, StreamMessage
from transport.session import Connected, MirrorSession

IMAGE_BYTES_MAX = 3 << 30
STOP_S_MAX = 60.0
RUN_S = 0.005
"""So long the program runs between two checkpoints, at least."""


class Pair:
    """One program and one mirror of it."""

    def __init__(self, spawner: Spawner, scout: Scout, started: Started, name: str) -> None:
        self.started = started
        self.tracee: Tracee = trace(started.pid)
        self.encoder = Encoder(name, 1, Image(IMAGE_BYTES_MAX), "zstd")
        self.checkpointer = Checkpointer(
            self.tracee,
            lambda: ContextCapture(self.tracee, lambda path: "local", scout),
            self.encoder,
            OriginCapture(name, ""),
            scout=scout,
        )
        self.acknowledged: list[Version] = []
        self.refused: list[str] = []
        session = MirrorSession(name, 1)
        staging = Staging(IMAGE_BYTES_MAX // PAGE_BYTES)

        def double(records: Records) -> ShadowDouble:
            return ShadowDouble(spawner, records)

        self.follower = Follower(
            session, f"{name}@here", 1, name, staging, double, self, lambda header: None, self.hopeless
        )

    def send(self, message: StreamMessage) -> None:
        """See `follower.Outgoing`."""
        if isinstance(message, Ack):
            self.acknowledged.append(message.version)
        elif isinstance(message, Refuse):
            self.refused.append(message.reason)

    def hopeless(self, error: PreflightError) -> None:
        """This node can't be a mirror."""
        raise error

    def hang_up(self, reason: str) -> None:
        """See `follower.Outgoing`."""
        self.refused.append(reason)

    def first(self) -> Verification:
        """The first image, the first checkpoint, and all of it to the mirror; compared at the stop."""
        checkpointer = self.checkpointer
        checkpointer.begin()
        while checkpointer.fill():
            self.look_after()
        self.follower.event(Connected(1))
        return self._at_stop(self._all)

    def next(self) -> Verification:
        """One more checkpoint, sent as a delta; compared at the stop."""
        self.run(RUN_S)
        return self._at_stop(lambda encoded: encoded.messages())

    def run(self, seconds: float) -> None:
        """Let the program run for so long."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            await_child_signal_free(left_s)
            self.look_after()

    def look_after(self) -> None:
        """Let the program's signals and births through."""
        self.tracee.pump()

    def close(self) -> None:
        """End both."""
        self.follower.destroy()
        os.kill(self.started.pid, signal.SIGKILL)
        while not self.tracee.ended:
            self.tracee.pump()
            self.tracee.release_dying()
        self.checkpointer.close()
        self.tracee.close()

    def _all(self, encoded: Encoded) -> list[StreamMessage]:
        transfer = self.encoder.full(encoded.header.captured_ns)
        messages = transfer.begin()
        while (chunk := transfer.next_chunk()) is not None:
            messages.append(chunk)
        return messages + transfer.end(encoded.header.captured_ns)

    def _at_stop(self, messages_of: Callable[[Encoded], list[StreamMessage]]) -> Verification:
        found: list[Verification] = []

        def compare(encoded: Encoded) -> None:
            for message in messages_of(encoded):
                self.follower.event(message)
            if self.refused or self.follower.version != encoded.header.version:
                raise AssertionError(f"the mirror does not hold {encoded.header.version}: {self.refused}")
            double = self.follower.double
            assert isinstance(double, ShadowDouble)
            own = double.shadow.trampoline
            found.append(verify(self.started.pid, double.pid, own=[(own.address, own.end)]))

        self.checkpointer.take(STOP_S_MAX, hold=compare)
        return found[0]


@contextmanager
def pair(program: Program, directory: Path) -> Iterator[Pair]:
    """Start `program`, ready to be mirrored, and end everything afterwards."""
    block_signals()
    command = program.command()
    request = Launch(
        executable=command[0],
        arguments=command,
        environment={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        directory=str(directory),
        output=str(directory / "output.log"),
    )
    scout = PatientScout()
    with Spawner() as spawner, scout:
        started = start(spawner, request)
        both = Pair(spawner, scout, started, "verified")
        try:
            with program.load():
                yield both
        finally:
            both.close()
            os.close(started.pidfd)
            spawner.end_namespace(started.init)
