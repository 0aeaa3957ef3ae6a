"""A program with mirrored structures. Whoever is the primary changes them, each time several that belong together, and
prints what a commit returned for; whoever is promoted prints what it was given.

`service.py loop|lock|commit`: which consistency.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from typing import Any

from kagemusha import structures

BOOK: Any = structures.Dict(number=0, recent=structures.List())
TABLE: dict[int, tuple[int, str]] = {}
LOCK = threading.Lock()
PROMOTED = threading.Event()


def say(what: str, **more: Any) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps({"what": what, **more}) + "\n")
    sys.stdout.flush()


@structures.on_promote
def promoted() -> None:
    say("promoted", number=BOOK["number"], last=BOOK["recent"][-1:], table=max(TABLE.values(), default=(0,))[0])
    PROMOTED.set()


@structures.on_demote
def demoted() -> None:
    say("demoted")
    PROMOTED.clear()


def change() -> int:
    """One transaction."""
    number: int = BOOK["number"] + 1
    BOOK["number"] = number
    BOOK["recent"].append(number)
    del BOOK["recent"][:-20]
    TABLE[number % 50] = (number, "entry")
    return number


async def on_a_loop() -> None:
    """Serve on an event loop."""
    structures.start()
    while True:
        if structures.role() == "primary":
            number = change()
            if number % 5 == 0:
                mirrors = await structures.commit_async()
                say("committed", number=number, mirrors=mirrors)
        await asyncio.sleep(0.001)


def with_threads(lock: contextlib.AbstractContextManager[Any]) -> None:
    """Serve in the main thread; commit outside of the lock."""
    while True:
        if structures.role() == "primary":
            with lock:
                number = change()
                wait = structures.publish() if number % 5 == 0 else None
            if wait is not None:
                say("committed", number=number, mirrors=wait(10.0))
        time.sleep(0.001)


def main() -> None:
    """Run."""
    lock = LOCK if sys.argv[1] == "lock" else None
    structures.mirror("book", BOOK, lock=lock)
    structures.mirror("table", TABLE, lock=lock)
    say("started", role=structures.role())
    if sys.argv[1] == "loop":
        asyncio.run(on_a_loop())
    else:
        with_threads(LOCK)


if __name__ == "__main__":
    main()
