"""Handlers are asked for only when they may have changed; which signal comes first decides how a call is restarted."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.context import signals
from agent.context.record import pack, unpack
from agent.context.signals import KEY, SA_RESTART, Handled, SignalsRecord
from agent.kernel import procfs
from agent.launch.spawner import Spawner
from agent.mirror.batch import Batch
from agent.mirror.shadow import Shadow
from agent.tracing.stopped import RemoteCall, Stopped
from tests.agent.plain_copy import NUMBER, await_line, built, launch, siginfo
from transport.checkpoint import Records

_HANDLER = 0x1000


def _action(handler: int, flags: int = 0) -> bytes:
    return struct.pack("<4Q", handler, flags, 0, 0)


def _records(pending: bytes = b"") -> Records:
    actions = (
        (signal.SIGHUP, _action(_HANDLER)),
        (signal.SIGUSR1, _action(_HANDLER, SA_RESTART)),
        (signal.SIGPIPE, _action(signals.SIG_IGN)),
        (signal.SIGTRAP, _action(signals.SIG_IGN)),
    )
    return {KEY: pack(SignalsRecord(0, 0, tuple((int(number), action) for number, action in actions), pending))}


def test_what_a_pending_signal_does_to_an_interrupted_call() -> None:
    mask = 1 << (signal.SIGHUP - 1)
    handled = Handled(_records(siginfo(signal.SIGUSR1)))
    assert handled.next_of(b"", 0) == "restarting handler"
    assert handled.next_of(siginfo(signal.SIGHUP), 0) == "handler"
    assert handled.next_of(siginfo(signal.SIGHUP), mask) == "restarting handler"
    assert handled.next_of(b"", 1 << (signal.SIGUSR1 - 1)) == "none"
    assert Handled(_records()).next_of(siginfo(signal.SIGPIPE) + siginfo(signal.SIGTERM), 0) == "none"


def test_the_action_of_sigtrap_is_left_for_the_end() -> None:
    assert signals.trap_action(_records()) == _action(signals.SIG_IGN)
    assert signals.trap_action({KEY: pack(SignalsRecord(0, 0, (), b""))}) is None


def test_signals_that_nobody_can_queue_are_left_out() -> None:
    batch = Batch()
    information = siginfo(signal.SIGKILL) + siginfo(signal.SIGSTOP) + siginfo(signal.SIGUSR1) + siginfo(0)
    signals.add_pending(batch, NUMBER, NUMBER, information)
    assert batch.names == ["pending signal 10"]


def test_pending_signals_are_queued_with_their_values(blank: Shadow) -> None:
    batch = blank.batch()
    signals.add_pending(batch, NUMBER, NUMBER, siginfo(signal.SIGRTMIN, -1, 5) + siginfo(signal.SIGRTMIN, -1, 6))
    signals.add_pending(batch, NUMBER, None, siginfo(signal.SIGUSR2, 0, 7))
    batch.run()
    status = procfs.status(blank.pid)
    assert status.pending == 1 << (signal.SIGRTMIN - 1)
    assert status.shared_pending == 1 << (signal.SIGUSR2 - 1)


def test_handlers_are_read_again_only_when_they_may_have_changed(spawner: Spawner, place: Path) -> None:
    output = place / "output"
    original = launch(spawner, built("signals"), str(place / "go"), output=output)
    calls: list[int] = []

    @contextmanager
    def remote(tid: int) -> Iterator[RemoteCall]:
        calls.append(tid)
        with original.remote(tid) as call:
            yield call

    try:
        await_line(output, "ready")
        original.stop()
        with open(f"/proc/{original.pid}/mem", "rb") as memory:

            def captured(previous: Records, *, refresh: bool, dying: bool = False) -> Records:
                stopped = Stopped(
                    original.pid, original.threads, memory.fileno(), -1, remote, previous, dying=dying, refresh=refresh
                )
                return signals.capture(stopped)

            first = captured({}, refresh=True)
            record = unpack(SignalsRecord, first[KEY])
            expected = {1, 5, 10, 13, 17, signal.SIGRTMIN + 1, signal.SIGRTMIN + 2}
            assert expected <= {number for number, _ in record.actions}
            assert {struct.unpack_from("<i", record.pending, at)[0] for at in (0, 128)} == {1, signal.SIGRTMIN + 2}
            assert captured(first, refresh=False) == captured(first, refresh=False, dying=True) == first
            assert len(calls) == 1
            other = {KEY: pack(SignalsRecord(0, 0, (), b""))}
            assert captured(other, refresh=False) == first
            assert len(calls) == 2
    finally:
        original.kill()
