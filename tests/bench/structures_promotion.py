"""How long a program's event loop stands still when it is promoted with a dict of a million entries.

    python -m tests.bench.structures_promotion [--entries 1000000]

A mirror is promoted: first its agent goes on from what it holds, as other mirrors may; then a mirror asks for a whole
copy, which is made while the program changes ten entries in each millisecond. The last line is one JSON object:
lateness of a timer of 1 ms in the 3 s after each, in ms; beside it the lateness when nothing is asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kagemusha import structures
from tests.kagemusha.structures.relay import Side, relay

ENTRIES = 1_000_000
WATCH_S = 3.0
STEP_S = 0.001
_ME = "tests.bench.structures_promotion"


async def original(entries: int) -> None:
    """The primary, until it is killed."""
    book = structures.mirror("book", structures.Dict())
    book.update({key: (10_000 + key % 500, 1 + key % 900, key) for key in range(entries)})
    await structures.commit_async(60.0)
    sys.stdout.write("committed\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def promoted() -> None:
    """The mirror: prints its lateness once it was promoted, and again for each line that it reads."""
    book: dict[int, Any] = structures.mirror("book", structures.Dict())
    told = asyncio.Event()
    structures.on_promote(told.set)
    structures.start()
    loop = asyncio.get_running_loop()
    await told.wait()
    gc.freeze()
    while True:
        sys.stdout.write(json.dumps(await lateness(book)) + "\n")
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.readline)


async def lateness(book: dict[int, Any]) -> dict[str, float]:
    """How late a timer is, while the program works, in ms."""
    late: list[float] = []
    end_s = time.perf_counter() + WATCH_S
    key = 0
    while (begun_s := time.perf_counter()) < end_s:
        for number in range(key, key + 10):
            book[number % ENTRIES] = (number, 1, 2)
        key += 10
        await asyncio.sleep(STEP_S)
        late.append(1000 * (time.perf_counter() - begun_s - STEP_S))
    late.sort()
    places = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    return {name: round(late[min(len(late) - 1, int(len(late) * place))], 2) for name, place in places}


async def _run(side: Side, role: str, *more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _ME, "--program", role, *more),
        env={**os.environ, "KAGEMUSHA_SOCKET": str(side.path), "KAGEMUSHA_ROLE": role},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def measure(entries: int) -> dict[str, Any]:
    """Run both programs."""
    with tempfile.TemporaryDirectory(prefix="kgm-bench") as directory:
        async with relay(Path(directory)) as (first, second):
            for side in (first, second):
                side.goes_on, side.interval_ms = True, 50
            copy = await _run(second, "mirror")
            await second.has_said("hello")
            primary = await _run(first, "primary", "--entries", str(entries))
            assert primary.stdout is not None
            assert copy.stdout is not None
            assert copy.stdin is not None
            try:
                await primary.stdout.readline()
                primary.kill()
                await primary.communicate()
                second.send({"kind": "promote", "token": 2})
                found: dict[str, Any] = {"promoted": json.loads(await copy.stdout.readline())}
                message = {"kind": "resync", "structure": "book", "version": 0, "state": None, "reason": "bench"}
                for name, asked in (("quiet", []), ("whole_copy", [message])):
                    wholes = len(second.said.get("whole", ()))
                    begun_s = time.perf_counter()
                    for one in asked:
                        second.send(one)
                    copy.stdin.write(b"\n")
                    if asked:
                        await second.has_said("whole", wholes + 1)
                        took_ms = round(1000 * (time.perf_counter() - begun_s))
                    found[name] = json.loads(await copy.stdout.readline())
            finally:
                copy.kill()
                await copy.communicate()
            size = second.said["whole"][-1]["size"]
    found |= {"entries": entries, "wholes_at_promotion": wholes, "whole_copy_ms": took_ms, "whole_copy_bytes": size}
    return found


def main() -> None:
    """Run the benchmark, or one of its programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--program", choices=("primary", "mirror"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.program is not None:
        asyncio.run(original(options.entries) if options.program == "primary" else promoted())
    else:
        sys.stdout.write(json.dumps(asyncio.run(measure(options.entries))) + "\n")


if __name__ == "__main__":
    main()
