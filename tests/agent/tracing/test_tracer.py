"""The tracer thread: jobs run in it, results and errors come back, child events and deadlines wake its resident."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from agent.tracing.tracer import Tracer


async def test_a_job_runs_in_the_tracer_thread_and_its_result_comes_back() -> None:
    failures: list[BaseException] = []
    tracer = Tracer(on_failure=failures.append)
    tracer.start()
    assert await tracer.call(threading.get_ident) != threading.get_ident()
    tracer.close()
    assert failures == []


async def test_an_error_of_a_job_is_raised_where_it_was_called() -> None:
    tracer = Tracer(on_failure=lambda error: None)
    tracer.start()

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await tracer.call(fail)
    assert await tracer.call(lambda: 1) == 1
    tracer.close()


async def test_a_resident_is_woken_at_its_deadline_and_a_failing_one_is_reported() -> None:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[BaseException] = loop.create_future()

    def fail(error: BaseException) -> None:
        loop.call_soon_threadsafe(failed.set_result, error)

    tracer = Tracer(on_failure=fail)
    tracer.start()

    class Clock:
        """Counts its wakes and gives up at the third."""

        wakes = 0

        def wake(self, now_s: float) -> float | None:
            """One deadline after the other."""
            self.wakes += 1
            if self.wakes == 3:
                raise RuntimeError("enough")
            return now_s + 0.01

    clock = Clock()
    await tracer.call(lambda: tracer.house(clock))
    error = await asyncio.wait_for(failed, 10)
    assert str(error) == "enough"
    assert clock.wakes == 3


def test_the_end_of_a_child_wakes_the_resident_at_once() -> None:
    """In a process of its own, because signals are blocked before its first thread starts."""
    program = textwrap.dedent(
        """
        import os, threading
        from agent.tracing.tracer import Tracer, block_signals
        block_signals()
        done = threading.Event()
        class Nurse:
            child = 0
            def wake(self, now_s):
                if self.child and os.waitpid(self.child, os.WNOHANG) != (0, 0):
                    self.child = 0
                    done.set()
                return None
        nurse = Nurse()
        tracer = Tracer(on_failure=print)
        tracer.start()
        child = os.fork()
        if child == 0:
            os._exit(0)
        def begin():
            nurse.child = child
            tracer.house(nurse)
        tracer.post(begin)
        print("woken" if done.wait(10) else "slept")
        tracer.close()
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, cwd=os.getcwd(), check=True
    )
    assert result.stdout.strip() == "woken", result.stderr
