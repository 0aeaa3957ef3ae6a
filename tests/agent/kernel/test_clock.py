"""What the kernel says of the wall clock."""

from __future__ import annotations

import time

from agent.kernel.clock import wall_clock


def test_the_kernel_says_how_wrong_it_may_be_and_changes_nothing() -> None:
    before = time.time() - time.monotonic()
    clock = wall_clock()
    assert clock == wall_clock() or clock.synchronised == wall_clock().synchronised
    # The kernel stops to let it grow at 16 s (NTP_PHASE_LIMIT), and has it as unsynchronised then.
    assert 0.0 <= clock.error_s <= 16.0
    assert clock.synchronised or clock.error_s > 0.0
    assert abs(time.time() - time.monotonic() - before) < 0.5
