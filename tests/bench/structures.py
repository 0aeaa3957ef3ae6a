"""What it costs a Python program to have a dict of a million entries mirrored, of which 1 % change in each interval.

One program handles requests as fast as it can, in intervals of 1 s, of 100 ms, and of the default 50 ms: 10,000 that
change an entry each, then requests that only read, until the interval is over. In turns, in the same run: with a plain
dict; with the dict mirrored to a second process; with a plain dict whose updates it also writes to a redis-server that
has a replica. Slowdown: requests that it handled less than with the plain dict beside it. Everything shares this
machine's processors.

Then a promotion with such a dict (`tests.bench.structures_promotion`), and the same with a table of a C program
(`tests.bench.structures_native`). `--json`: one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kagemusha import structures
from tests.bench.redis_pair import RedisPair, redis_pair
from tests.kagemusha.structures.relay import Message, Side, relay

ENTRIES = 1_000_000
CHANGES = ENTRIES // 100
INTERVALS = {1000: 2, 100: 6, 50: 12}
"""Length in ms -> how many of them each way of working has at a time."""
TURNS = 5
AGENT_INTERVAL_MS = 50
"""The default: how often the library says that it is there; changes are taken where the program says so."""
COMMITS = 10

Entry = tuple[int, int, int]
Book = dict[int, Entry]


def entry(key: int, number: int) -> Entry:
    """Return an order: price, quantity, time."""
    return 10_000 + key % 500, 1 + number % 900, number


def fingerprint(book: Book) -> int:
    """Return a number that is equal for equal books, in any process."""
    return sum(map(hash, book.items())) & ((1 << 64) - 1)


class Requests:
    """An endless stream of requests as text; keys are spread over the whole book."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self._lines = [b"%d %d %d" % (rng.randrange(ENTRIES), rng.randrange(1, 900), n) for n in range(20 * CHANGES)]
        self._at = 0

    def next_change(self) -> list[bytes]:
        """Return the changes of one interval."""
        self._at = (self._at + CHANGES) % len(self._lines)
        return self._lines[self._at : self._at + CHANGES]


After = Callable[[list[tuple[int, Entry]]], None]


def interval(book: Book, changes: list[bytes], after: After, interval_ms: int) -> float:
    """Handle the requests of one interval, and then what `after` does with the changes; return requests per second."""
    began = time.perf_counter()
    changed: list[tuple[int, Entry]] = []
    answers = 0
    for line in changes:
        key, quantity, number = map(int, line.split())
        price, _, _ = book[key]
        new = (price, quantity, number)
        book[key] = new
        changed.append((key, new))
        answers += len(b"OK %d %d" % (price, quantity))
    after(changed)
    handled = len(changes)
    while time.perf_counter() - began < interval_ms / 1000:
        for line in changes[:100]:
            key, quantity, _ = map(int, line.split())
            price, there, _ = book[key]
            answers += len(b"OK %d %d" % (price, min(there, quantity)))
        handled += 100
    return handled / (time.perf_counter() - began)


class RedisBook:
    """The book in a redis-server that has a replica."""

    def __init__(self, pair: RedisPair) -> None:
        self.pair = pair

    def write(self, changed: list[tuple[int, Entry]]) -> None:
        """Write changes as strings, in one pipeline, and read all answers."""
        self.pair.ask(b"".join(b"SET %d %d,%d,%d\r\n" % (key, *new) for key, new in changed), len(changed))

    def fill(self, book: Book) -> None:
        """Write everything, and wait for the replica."""
        items = list(book.items())
        for at in range(0, len(items), CHANGES):
            self.write(items[at : at + CHANGES])
        self.pair.follow()


def _nothing(changed: list[tuple[int, Entry]]) -> None:
    """What a program does that keeps its book to itself."""


def _published(changed: list[tuple[int, Entry]]) -> None:
    structures.publish()


def _timed_ms(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def primary() -> None:
    """The program that is measured. Prints its figures as JSON."""
    plain: Book = {key: entry(key, 0) for key in range(ENTRIES)}
    book: Book = structures.mirror("book", structures.Dict(plain))
    gc.freeze()  # as services do that keep much for ever; or full collections would come in whose turn it happens to be
    first_ms = _timed_ms(lambda: structures.commit(60.0))
    requests = Requests(1)
    rates: dict[int, dict[str, list[float]]] = {}
    with redis_pair() as pair:
        redis = RedisBook(pair)
        redis.fill(plain)
        before = pair.sent_bytes()
        ways = {"plain": (plain, _nothing), "mirrored": (book, _published), "redis": (plain, redis.write)}
        for interval_ms, name in itertools.chain.from_iterable(
            itertools.product(INTERVALS, ways) for _ in range(TURNS)
        ):
            target, after = ways[name]
            number = INTERVALS[interval_ms]
            turn = [interval(target, requests.next_change(), after, interval_ms) for _ in range(number)]
            rates.setdefault(interval_ms, {}).setdefault(name, []).append(statistics.mean(turn))
            structures.commit(60.0)
            pair.wait()
        sent = pair.sent_bytes() - before
        waits: dict[str, list[float]] = {"mirrored": [], "redis": []}
        for _ in range(COMMITS):
            for key in range(100):
                book[key] = entry(key, len(waits["mirrored"]))
            waits["mirrored"].append(_timed_ms(lambda: structures.commit(60.0)))
            redis.write(list(plain.items())[:100])
            waits["redis"].append(_timed_ms(pair.wait))
    figures = {
        "rates": rates,
        "waits_ms": waits,
        "first_copy_ms": first_ms,
        "redis_bytes_per_interval": sent // (TURNS * sum(INTERVALS.values())),
        "fingerprint": fingerprint(book),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def mirror() -> None:
    """The warm mirror: waits until it is promoted, and prints the fingerprint of what it has."""
    book: Book = structures.mirror("book", structures.Dict())
    done = structures.on_promote(lambda: sys.stdout.write(f"{fingerprint(book)}\n"))
    structures.start()
    sys.stdin.readline()
    del done


class _Sizes:
    """Counts what the primary says, by kind of update, and passes it on as it is."""

    def __init__(self) -> None:
        self.whole_bytes = 0
        self.update_bytes: list[int] = []

    def done_to(self, message: Message) -> list[Message]:
        """See Harm in the tests' relay."""
        if message["kind"] == "whole":
            self.whole_bytes = message["size"]
        elif message["kind"] == "update":
            self.update_bytes.append(message["size"])
        return [message]


async def _run(side: Side, role: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.structures", "--program", role),
        env={**os.environ, "KAGEMUSHA_SOCKET": str(side.path), "KAGEMUSHA_ROLE": role},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )


async def measure() -> dict[str, Any]:
    """Run both programs with two agents between them."""
    with tempfile.TemporaryDirectory(prefix="kgm-bench") as directory:
        async with relay(Path(directory)) as (first, second):
            sizes = first.harm = _Sizes()
            first.interval_ms = second.interval_ms = AGENT_INTERVAL_MS
            copy = await _run(second, "mirror")
            await second.has_said("hello")
            original = await _run(first, "primary")
            try:
                assert original.stdout is not None
                assert copy.stdout is not None
                figures = json.loads(await original.stdout.readline())
                second.send({"kind": "promote", "token": 2})
                same = int(await copy.stdout.readline()) == figures["fingerprint"]
            finally:
                for process in (original, copy):
                    process.kill()
                    await process.communicate()
    return _result(figures, sizes, same)


def _slowdowns(figures: dict[str, Any], way: str) -> dict[str, float]:
    """Return, by length of the interval in ms, how many percent less was done."""
    return {
        interval_ms: round(100 * statistics.median(map(_less, rates["plain"], rates[way])), 1)
        for interval_ms, rates in figures["rates"].items()
    }


def _less(plain: float, other: float) -> float:
    return 1 - other / plain


def _result(figures: dict[str, Any], sizes: _Sizes, same: bool) -> dict[str, Any]:
    per_interval = round(statistics.median(size for size in sizes.update_bytes if size > sizes.whole_bytes // 1000))
    return {
        "entries": ENTRIES,
        "changes_per_interval": CHANGES,
        "plain_requests_per_s": round(statistics.median(figures["rates"][str(max(INTERVALS))]["plain"])),
        "mirrored": {
            "slowdown_percent_by_interval_ms": _slowdowns(figures, "mirrored"),
            "bytes_per_interval": per_interval,
            "full_bytes": sizes.whole_bytes,
            "percent_of_full": round(100 * per_interval / sizes.whole_bytes, 2),
            "commit_of_100_ms": round(statistics.median(figures["waits_ms"]["mirrored"]), 2),
            "first_copy_ms": round(figures["first_copy_ms"]),
            "mirror_is_equal": same,
        },
        "redis": {
            "slowdown_percent_by_interval_ms": _slowdowns(figures, "redis"),
            "bytes_per_interval": figures["redis_bytes_per_interval"],
            "wait_of_100_ms": round(statistics.median(figures["waits_ms"]["redis"]), 2),
        },
    }


def main() -> None:
    """Run the benchmark, or one of its programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--program", choices=("primary", "mirror"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.program is not None:
        return primary() if arguments.program == "primary" else mirror()
    result = asyncio.run(measure())
    promotion, native = (
        json.loads(subprocess.check_output([sys.executable, "-m", f"tests.bench.structures_{name}"]))
        for name in ("promotion", "native")
    )
    if arguments.json:
        sys.stdout.write(json.dumps({"python": result, "promotion": promotion, "native": native}) + "\n")
        return None
    sys.stdout.write(f"{result['plain_requests_per_s']} requests/s with a plain dict\n")
    for way in ("mirrored", "redis"):
        sys.stdout.write(f"{way:>9} {'  '.join(f'{name} {value}' for name, value in result[way].items())}\n")
    sys.stdout.write(f"promotion {'  '.join(f'{name} {value}' for name, value in promotion.items())}\n")
    sys.stdout.write(f"   native {'  '.join(f'{name} {value}' for name, value in native.items())}\n")
    return None


if __name__ == "__main__":
    main()
