"""What a stop costs the program's memory: the floor, scattered dirty pages, a large image, the verifier.

    python -m tests.bench.memory [MIB]

Writes one JSON object to standard output. Numbers mean nothing on a busy machine.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from agent.context.memory import MemoryCapture
from agent.memory.image import Image
from agent.memory.page_ranges import PAGE_BYTES, collapse, expand
from agent.memory.verify import verify
from tests.agent.mirrored import ANONYMOUS, FIXED, PLACE, PRIVATE, READ, WRITE
from tests.agent.victim import Puppet, build, running

_ROUNDS = 100
T = TypeVar("T")


def timed(action: Callable[[], T]) -> tuple[float, T]:
    """Microseconds that it took, and what it gave."""
    started = time.perf_counter()
    result = action()
    return (time.perf_counter() - started) * 1e6, result


def exhaust(items: Iterator[object]) -> None:
    """Run through all of them."""
    for _ in items:
        pass


def summary(samples: list[float]) -> dict[str, float]:
    """min, p50, p99 and max of samples, rounded."""
    places = (("min", 0), ("p50", 50), ("p99", 99), ("max", 100))
    return {name: round(float(np.percentile(samples, place)), 1) for name, place in places}


def stops(victim: Puppet, capture: MemoryCapture, dirty_pages: int, pages: int) -> dict[str, object]:
    """Stops with so many scattered dirty pages, written after the last look."""
    scan, copy, parts = [], [], []
    dice = random.Random(dirty_pages)
    for number in range(2, _ROUNDS + 2):
        for page in dice.sample(range(pages), dirty_pages):
            victim.tell("w", PLACE + page * PAGE_BYTES, number)
        victim.stop()
        scan_us, found = timed(capture.tracker.scan_stopped)
        capture.tracker.give_back(found)
        copy_us, checkpoint = timed(capture.copy_stopped)
        victim.resume()
        parts_us, _ = timed(partial(exhaust, checkpoint.parts(capture.image, number)))
        scan.append(scan_us)
        copy.append(copy_us)
        parts.append(parts_us)
    return {"scan_us": summary(scan), "scan_again_and_copy_us": summary(copy), "parts_us": summary(parts)}


def measure(directory: Path, mib: int) -> dict[str, object]:
    pages = mib << 8
    with running([str(build("puppet.c"))], directory) as victim:
        victim.tell("m", PLACE, mib << 20, READ | WRITE, PRIVATE | ANONYMOUS | FIXED, -1, 0)
        for page in range(0, pages, 4096):
            victim.tell("f", PLACE + page * PAGE_BYTES, min(4096, pages - page) * PAGE_BYTES, page % 255)
        capture = MemoryCapture(victim.pid, victim.take_uffd(), Image((mib << 20) + (256 << 20)))
        victim.stop()
        capture.attach()
        victim.resume()
        fill_us, _ = timed(lambda: exhaust(capture.fill(1)))
        result: dict[str, object] = {"mib": mib, "fill_mib_per_s": round(mib / fill_us * 1e6)}
        gc.disable()
        for dirty_pages in (0, 500, 2000):
            result[f"dirty_{dirty_pages}"] = stops(victim, capture, dirty_pages, pages)
        known = capture.image.pages_known()
        scattered = collapse(known[:: max(1, len(known) // 4000)][:4000])
        rows = np.zeros((len(expand(scattered)), 512), np.uint64)
        reads = [timed(lambda: capture.memory.read(scattered, rows))[0] for _ in range(_ROUNDS)]
        result["read_scattered_us_per_page"] = round(float(np.median(reads)) / len(rows), 2)
        victim.stop()
        verify_us, checked = timed(lambda: verify(victim.pid, victim.pid))
        result["verify_gb_per_s"] = round(checked.bytes_compared / verify_us / 1e3, 2)
        victim.resume()
        capture.close()
        return result


def main() -> None:
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    with tempfile.TemporaryDirectory(prefix="kgm-bench-") as directory:
        sys.stdout.write(json.dumps(measure(Path(directory), mib)) + "\n")


if __name__ == "__main__":
    main()
