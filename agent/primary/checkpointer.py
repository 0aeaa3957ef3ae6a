"""Takes the checkpoints of one program: copy while it runs, stop, read the rest, resume, encode.

Belongs to the tracer thread. The program stands still only from the stop to the end of the copy; what changed is
compared, compressed and published while it runs again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import structlog

from agent.context import layout
from agent.context.memory import Captured, MemoryCapture
from agent.context.origin import OriginCapture
from agent.errors import CaptureError, KernelError, TraceeGone, Unsupported
from agent.kernel import procfs
from agent.kernel.userfaultfd import Userfaultfd
from agent.primary.context_capture import ContextCapture
from agent.primary.encoding import Encoded, Encoder
from agent.primary.pauses import Pauses
from agent.scout.scout import Scout
from agent.tracing.restart import suspect
from agent.tracing.tracee import Tracee
from transport.checkpoint import Records
from transport.errors import PreflightError

log = structlog.get_logger()

BEGIN_S_MAX = 0.5
"""How long the first stops, in which the tracking of writes is set up, may be waited for; then the program runs on, and
it is tried again."""
_ROUNDS_MAX = 3
_LONG_S = 0.25
"""A stop that takes longer is told of."""
_LITTLE_PAGES = 512
"""So few pages are left to the round just before the stop (a millisecond)."""


class Checkpointer:
    """One primary's checkpoints. `between` is called again and again while nothing stands still, to look after it."""

    def __init__(
        self,
        tracee: Tracee,
        make_context: Callable[[], ContextCapture],
        encoder: Encoder,
        origin: OriginCapture,
        *,
        prompt: Callable[[], AbstractContextManager[None]] = nullcontext,
        scout: Scout | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self.tracee = tracee
        self.encoder = encoder
        self.pauses = Pauses()
        self.taken = 0
        self.between = between
        self._context = make_context()
        self._prompt = prompt
        self._scout = scout or Scout()
        self._origin = origin
        self._memory: MemoryCapture | None = None
        self._filling: Iterator[object] | None = None
        self._learnt = False

    @property
    def memory(self) -> MemoryCapture:
        """The capture of the memory. Raises CaptureError before `begin`."""
        if self._memory is None:
            raise CaptureError("the tracking of the program's memory has not begun")
        return self._memory

    @property
    def begun(self) -> bool:
        """Whether writes are tracked."""
        return self._memory is not None

    def begin(self) -> None:
        """Stop the program twice, each time for about a millisecond, and begin to track what it writes.

        Raises CheckpointAbandoned, Unsupported, KernelError, TraceeGone; it can be tried again then.
        """
        tracee = self.tracee
        begun_s = time.monotonic()
        tracee.prepare_remote()
        with self._stop(BEGIN_S_MAX), tracee.remote(next(iter(tracee.threads))) as call:
            uffd = Userfaultfd.inside(call, tracee.pidfd)
        made_s = time.monotonic()
        memory = MemoryCapture(tracee.pid, uffd, self.encoder.image, self._scout)
        try:
            memory.look_ahead()
            looked_s = time.monotonic()
            with self._stop(BEGIN_S_MAX):
                memory.attach()
        except BaseException:
            memory.close()
            raise
        attached_s = time.monotonic()
        log.info(
            "writes are tracked",
            userfaultfd_ms=round((made_s - begun_s) * 1e3, 1),
            look_ms=round((looked_s - made_s) * 1e3, 1),
            attach_ms=round((attached_s - looked_s) * 1e3, 1),
        )
        self._memory = memory

    def fill(self) -> bool:
        """Bring some more of the memory into the image, while the program runs; False when all of it has been there."""
        if self._filling is None:
            self._filling = self.memory.fill(self.encoder.version.number + 1)
        return next(self._filling, None) is not None

    def learn(self) -> bool:
        """Stop the program for a moment to read ahead what would make the first checkpoint's stop a long one.

        False when nothing is left to be read ahead: the program was not stopped. Raises as `take`.
        """
        if self._learnt:
            return False
        with self._stop(BEGIN_S_MAX):
            self._learnt = not self._context.learn()
        return not self._learnt

    def take(self, deadline_s: float, *, hold: Callable[[Encoded], None] | None = None) -> Encoded:
        """Take one checkpoint; `deadline_s`: seconds that the program may stand still at most.

        hold: called with the checkpoint before the program is resumed (it stands still much longer then).
        Raises CheckpointAbandoned (nothing is lost), Unsupported, CaptureError, KernelError, TraceeGone; the program
        runs again then.
        """
        memory = self.memory
        self._precopy(memory)
        encoded: Encoded | None = None
        # What waits for the processor or the lock waits before this last round, so that little is written after it.
        with self._stop(deadline_s, just_before=memory.precopy) as until_s:
            try:
                tell = self._read_beside(memory)
                captured = memory.copy_stopped(until_s)
                captured_ns = time.time_ns()
                if hold is not None:
                    encoded = self._encode(captured, tell(), captured_ns, final=False)
                    hold(encoded)
            except BaseException:
                memory.abandon()
                raise
        if encoded is not None:
            return encoded
        try:
            records = tell()
        except BaseException:
            memory.abandon()
            raise
        return self._encode(captured, records, captured_ns, final=False)

    def _read_beside(self, memory: MemoryCapture) -> Callable[[], Records]:
        """Read the context while the scout asks about connections and looks through the memory."""
        scopes = self.tracee.remote_scopes
        memory.ask_scout(self._context.connections)
        try:
            tell = self._context.read(self.encoder.history.records)
        finally:
            self._scout.forget_rows()
        if self.tracee.remote_scopes != scopes:
            memory.dismiss_scout()  # It may have seen what a system call in the program had borrowed.
        return tell

    def _precopy(self, memory: MemoryCapture) -> None:
        """Copy while the program runs, until little is left for the last round, or it does not get less."""
        before = 0
        for _ in range(_ROUNDS_MAX):
            copied = memory.precopy()
            self.between()
            if copied <= _LITTLE_PAGES or 0 < before < 2 * copied:
                break
            before = copied

    def hold(self, deadline_s: float, silence: Callable[[], None]) -> Encoded:
        """Take the last checkpoint of a program that goes on elsewhere by plan; it stays stopped.

        Its address is silenced when most of its memory has been copied. Raises as `take`, with the program running
        again, and the address perhaps silent.
        """
        memory = self.memory
        self._precopy(memory)
        with self._prompt():
            silence()
            memory.precopy()
            self.tracee.stop(time.monotonic() + deadline_s)
            try:
                return self._last(self._context.capture(self.encoder.history.records, last=True))
            except BaseException:
                memory.abandon()
                self.tracee.resume()
                raise

    def last_gasp(self) -> Encoded:
        """Take the last checkpoint of a program whose threads are held as they die of SIGKILL.

        Its address must be silent. Raises Unsupported when the state of a thread is suspect: the checkpoint
        before is the last sound one then.
        """
        tracee = self.tracee
        if tracee.missed or tracee.ended:
            raise Unsupported("a thread was killed in the moment in which it could not be held")
        tracee.read_dying()
        for row, tid in enumerate(tracee.threads):
            if suspect(tracee.block.registers[row], self._is_regular_file):
                raise Unsupported(f"thread {tid} was killed in the middle of a system call that can't be told apart")
        with self._prompt():
            begun_s = time.perf_counter()
            records = self._context.capture(self.encoder.history.records, dying=True)
            read_s = time.perf_counter()
            captured = self.memory.copy_stopped()
            copied_s = time.perf_counter()
            encoded = self._encode(captured, records, time.time_ns(), final=True)
        log.info(
            "the last checkpoint of the dying program",
            pages=encoded.header.pages,
            context_us=int((read_s - begun_s) * 1e6),
            memory_us=int((copied_s - read_s) * 1e6),
            encode_us=int((time.perf_counter() - copied_s) * 1e6),
        )
        return encoded

    def close(self) -> None:
        """Stop tracking and let go of what is held of the program."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
            self._filling = None
        self._context.close()

    def _last(self, records: Records) -> Encoded:
        return self._encode(self.memory.copy_stopped(), records, time.time_ns(), final=True)

    def _encode(self, captured: Captured, records: Records, captured_ns: int, *, final: bool) -> Encoded:
        self.taken += 1
        records[layout.KEY] = captured.layout
        records.update(self._origin_of(captured))
        return self.encoder.delta(captured, records, captured_ns=captured_ns, final=final, between=self.between)

    def _origin_of(self, captured: Captured) -> Records:
        """Files may have been replaced since they were mapped; what can't be read any more was known before."""
        try:
            return self._origin.capture(captured.areas, self.tracee.block.xstate.shape[1])
        except PreflightError as error:
            raise CaptureError(error.what, hint=error.hint) from error

    def _is_regular_file(self, descriptor: int) -> bool:
        try:
            return procfs.read_link(self.tracee.pid, f"fd/{descriptor}").startswith("/")
        except (TraceeGone, KernelError):
            return True

    @contextmanager
    def _stop(self, deadline_s: float, *, just_before: Callable[[], object] = lambda: None) -> Iterator[float]:
        """The program stands still within this; gives the time (CLOCK_MONOTONIC) until which it may.

        just_before: what is done before, undisturbed. The pause counts if nothing was raised.
        """
        with self._prompt():
            just_before()
            started_s = time.monotonic()
            self.tracee.stop(started_s + deadline_s)
            stopped_s = time.monotonic()
            try:
                yield started_s + deadline_s
            finally:
                self.tracee.resume()
                ended_s = time.monotonic()
                if ended_s - started_s > _LONG_S:
                    log.warning(
                        "the program stood still for long",
                        stopping_ms=round((stopped_s - started_s) * 1e3, 1),
                        stopped_ms=round((ended_s - stopped_s) * 1e3, 1),
                    )
            self.pauses.add((ended_s - started_s) * 1e6)
