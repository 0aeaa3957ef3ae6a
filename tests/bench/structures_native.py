"""A 64 MiB table of a C program, a share of whose pages changes all the time: how long each capture stops the program.

    python -m tests.bench.structures_native [--mib 64] [--percent 1] [--rounds 100] [--untracked]

The program writes to other pages in each round, until the captures end. Beside it, in the same run: the same entries of
the same rounds, written by a program of ours to a redis-server that has a replica; it waits for the answers, so that is
how long it does nothing else. The last line is one JSON object; numbers mean nothing on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import numpy as np

from agent.structures import standstill
from agent.structures.blocks import Blocks, Rows
from agent.structures.capture import Capture, pages_of
from agent.structures.changes import AllChanges, Changes, Watch
from agent.structures.finding import find
from agent.structures.update import Copy, Original
from agent.tracing.prompt import Prompt
from kagemusha.demo.resp import command
from tests.agent.structures.built import ask, built, traced
from tests.agent.traced import STOP_S, Running
from tests.bench.redis_pair import redis_pair
from transport.delta import PagePartDecoder, PagePartEncoder

ENTRY_WORDS = 8
Changed = list[tuple[int, bytes]]
"""Entries of the table: number and content."""


def summary(samples_s: list[float]) -> dict[str, float]:
    """p50, p99 and max in milliseconds."""
    places = (("p50", 50), ("p99", 99), ("max", 100))
    return {name: round(float(np.percentile(samples_s, place)) * 1e3, 3) for name, place in places}


def entries(before: Rows, after: Rows, blocks: Blocks) -> Changed:
    """The entries of these blocks that have changed, by their number."""
    old, new = (rows.reshape(-1, ENTRY_WORDS) for rows in (before, after))
    where = np.flatnonzero((old != new).any(axis=1))
    per_block = before.shape[1] // ENTRY_WORDS
    numbers = blocks[where // per_block].astype(np.int64) * per_block + where % per_block
    return [(int(number), new[at].tobytes()) for number, at in zip(numbers, where, strict=True)]


def beside(first: Changed, rounds: list[Changed]) -> dict[str, object]:
    """What writing the same to redis takes: all of it first, and then each round."""
    write_s, wait_s = [], []
    with redis_pair() as pair:
        for at in range(0, len(first), 10_000):
            part = first[at : at + 10_000]
            pair.ask(b"".join(command(b"SET", b"%d" % key, value) for key, value in part), len(part))
        pair.follow()
        full_bytes = pair.sent_bytes()
        for changed in rounds:
            begun_s = time.perf_counter()
            pair.ask(b"".join(command(b"SET", b"%d" % key, value) for key, value in changed), len(changed))
            written_s = time.perf_counter()
            pair.wait()
            write_s.append(written_s - begun_s)
            wait_s.append(time.perf_counter() - written_s)
        sent = pair.sent_bytes() - full_bytes
    return {
        "write_ms": summary(write_s),
        "wait_ms": summary(wait_s),
        "update_bytes": round(sent / len(rounds)),
        "full_bytes": full_bytes,
        "entries_p50": round(statistics.median(map(len, rounds))),
    }


def measure(program: Running, options: argparse.Namespace) -> dict[str, object]:
    """Take updates while the program writes; the copy that they lead to is compared in the end."""
    pages = options.mib << 8
    ask(program, f"p {max(1, int(pages * options.percent / 100))} {options.interval_ms * 1000}")
    place = find(program.pid, "g_table")
    stops_s: list[float] = []
    standing = standstill.by_tracing(program.tracee, Prompt(None), STOP_S, stops_s.append)
    of = pages_of(place)
    watch = Watch(program.tracee, standing)
    changes: Changes = AllChanges(of, "as asked for") if options.untracked else watch.changes(of)
    original = Original("g_table", place.structure.size, PagePartEncoder())
    capture = Capture(place, changes, original)
    copy = Copy("g_table", place.structure.size, PagePartDecoder())
    look_s, update_s, sizes, blocks = [], [], [], []
    before = np.zeros_like(copy.rows)
    rounds: list[Changed] = []
    stops_s.clear()
    for _ in range(options.rounds + 2):
        begun_s = time.perf_counter()
        capture.look()
        looked_s = time.perf_counter()
        with standing():
            capture.copy()
        copied_s = time.perf_counter()
        update = capture.update()
        update_s.append(time.perf_counter() - copied_s)
        look_s.append(looked_s - begun_s)
        if update is not None:
            changed = copy.apply(update)
            blocks.append(len(changed))
            sizes.append(len(update.data))
            rounds.append(entries(before[changed], copy.rows[changed], changed))
            before[changed] = copy.rows[changed]
        time.sleep(max(0.0, begun_s + options.interval_ms / 1e3 - time.perf_counter()))
    capture.close()
    watch.close()
    # The first is whole, and the second catches up with what was written meanwhile.
    return {
        "mib": options.mib,
        "percent": options.percent,
        "tracked": not changes.remark,
        "stop_ms": summary(stops_s[2:]),
        "look_ms": summary(look_s[2:]),
        "update_ms": summary(update_s[2:]),
        "first_stop_ms": round(stops_s[0] * 1e3, 3),
        "update_bytes_p50": round(statistics.median(sizes[2:])),
        "blocks_p50": round(statistics.median(blocks[2:])),
        "full_bytes": sizes[0],
        "mirror_is_same": bool((copy.rows == original.rows).all()),
        "redis": beside(rounds[0], rounds[2:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--percent", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--interval-ms", type=int, default=50)
    parser.add_argument("--untracked", action="store_true", help="as with a kernel that can't track writes")
    options = parser.parse_args()
    with traced(built("table.c", "-g", "-O2", f"-DMIB={options.mib}")) as program:
        sys.stdout.write(json.dumps(measure(program, options)) + "\n")


if __name__ == "__main__":
    main()
