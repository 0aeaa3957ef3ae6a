"""The client: one process with all connections, driven by JSON lines, written for little overhead (epoll, no asyncio).

    python -m kagemusha.demo.load

reads one request a line from its standard input, `{"do": NAME, ...}`, and answers each with one line, `{"done": NAME,
...}` or `{"failed": NAME, "why": ...}`. One request at a time.

    connect  host port idle busy anew    connect all, begin to write; answers when each has had a reply; `first`, if
                                         given: the number of the first of each kind, for what writes elsewhere
    rate     per_second                  writes of all busy connections together; 0: as fast as they are answered
    measure  seconds                     answers with the writes per second of this time
    ping                                 every idle connection asks once; answers with how many did get their reply
    settle   event_ns                    after an event: waits until every connection has proved its writes, or hangs;
                                         answers with the Outcome and the replies around the event
    stop                                 ends

Times are CLOCK_MONOTONIC in ns; the process shares its clock with whoever drives it.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import json
import os
import select
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic_ns
from typing import Any

from kagemusha.demo.fill import fill
from kagemusha.demo.ledger import SLOTS, Connection, outcome
from kagemusha.demo.writers import Client, Idler, Writer

LOOK_FOR_HANGS_NS = 50_000_000
SETTLE_LIMIT_NS = 15_000_000_000
CONNECT_LIMIT_NS = 10_000_000_000
TRACE_BEFORE_NS = 150_000_000
TRACE_AFTER_NS = 500_000_000
_PACE_S = 0.001


class Load:
    """The loop with all connections. `turn` handles what is there; `pending` is the request that waits for its end."""

    def __init__(self) -> None:
        self.target = ("", 0)
        self.writers: list[Writer] = []
        self.idlers: list[Idler] = []
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ready: deque[Writer] = deque()
        self._rate = 0
        self._sent = 0
        self._paced_from_ns = monotonic_ns()

    # What the connections ask for (writers.Loop)

    def watch(self, fd: int, mask: int, on_event: Callable[[int], None]) -> None:
        """See writers.Loop."""
        self._epoll.register(fd, mask)
        self._handlers[fd] = on_event

    def forget(self, fd: int) -> None:
        """See writers.Loop."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, at_ns: int, call: Callable[[], None]) -> None:
        """See writers.Loop."""
        heapq.heappush(self._timers, (at_ns, next(self._order), call))

    def wants_to_send(self, writer: Writer) -> None:
        """See writers.Loop."""
        if self._rate and not writer.anew:
            self._ready.append(writer)
        else:
            writer.send()

    # The loop

    def set_rate(self, per_second: int) -> None:
        """Writes per second of all busy connections together; 0: unlimited."""
        self._rate, self._sent, self._paced_from_ns = per_second, 0, monotonic_ns()
        while not per_second and self._ready:
            self._ready.popleft().send()

    def turn(self) -> None:
        """Wait for the next thing to happen, and handle all that has."""
        for fd, events in self._epoll.poll(self._rest_s()):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)
        if self._ready:
            self._send_allowed()
        if self._timers and self._timers[0][0] <= monotonic_ns():
            self._run_timers()

    def _rest_s(self) -> float:
        rest_s = _PACE_S if self._ready else 1.0
        if self._timers:
            rest_s = min(rest_s, max(self._timers[0][0] - monotonic_ns(), 0) / 1e9)
        return rest_s

    def _send_allowed(self) -> None:
        allowed = (monotonic_ns() - self._paced_from_ns) * self._rate // 1_000_000_000
        # What an outage kept back is not caught up with: clients that wait do not write twice as much afterwards.
        self._sent = max(self._sent, allowed - self._rate // 50)
        while self._ready and self._sent < allowed:
            self._sent += 1
            self._ready.popleft().send()

    def _run_timers(self) -> None:
        now_ns = monotonic_ns()
        while self._timers and self._timers[0][0] <= now_ns:
            heapq.heappop(self._timers)[2]()

    @property
    def clients(self) -> list[Client]:
        """All connections."""
        return [*self.idlers, *self.writers]

    def look_for_hangs(self) -> None:
        """Look at every connection now and every 50 ms."""
        now_ns = monotonic_ns()
        for client in self.clients:
            client.look_for_hang(now_ns)
        self.later(now_ns + LOOK_FOR_HANGS_NS, self.look_for_hangs)

    def until(self, done: Callable[[], bool], limit_ns: int) -> bool:
        """Turn until `done()` (looked at every millisecond) or for `limit_ns`; returns whether it is done."""
        end_ns = monotonic_ns() + limit_ns
        self.later(end_ns, lambda: None)
        while not done():
            if monotonic_ns() >= end_ns:
                return False
            look_again_ns = monotonic_ns() + 1_000_000
            self.later(look_again_ns, lambda: None)
            while monotonic_ns() < look_again_ns:
                self.turn()
        return True

    # The requests

    def connect(self, host: str, port: int, idle: int, busy: int, anew: int, first: int = 0) -> dict[str, Any]:
        """Connect all and begin to write."""
        self.target = (host, port)
        self.idlers = [Idler(self, first + number) for number in range(idle)]
        self.writers = [Writer(self, "busy", first + number) for number in range(busy)]
        self.writers += [Writer(self, "anew", first + number) for number in range(anew)]
        for client in self.clients:
            client.connect()
        self.look_for_hangs()
        if not self.until(lambda: all(one.seen.replies_ns for one in self.writers), CONNECT_LIMIT_NS):
            raise TimeoutError(f"not every connection to {host}:{port} was answered within 10 s")
        return self.ping()

    def ping(self) -> dict[str, Any]:
        """Every idle connection asks once."""
        goals = [(idler.seen, len(idler.seen.replies_ns), len(idler.seen.hangs_ns)) for idler in self.idlers]
        for idler in self.idlers:
            idler.ping()

        def ended(seen: Connection, replies: int, hangs: int) -> bool:
            return len(seen.replies_ns) > replies or len(seen.hangs_ns) > hangs

        self.until(lambda: all(ended(*goal) for goal in goals), SETTLE_LIMIT_NS)
        good = sum(len(seen.replies_ns) > replies for seen, replies, _ in goals)
        return {"answered": good, "of": len(self.idlers)}

    def measure(self, seconds: float) -> dict[str, Any]:
        """Writes per second over a time."""
        count, start_ns = self._written(), monotonic_ns()
        self.until(lambda: False, int(seconds * 1e9))
        passed_s = (monotonic_ns() - start_ns) / 1e9
        return {"writes_per_second": (self._written() - count) / passed_s}

    def _written(self) -> int:
        return sum(len(writer.seen.replies_ns) for writer in self.writers)

    def settle(self, event_ns: int) -> dict[str, Any]:
        """Wait until all connections have proved what they had written before the event, and judge it."""
        goals = [(writer, len(writer.seen.replies_ns) + SLOTS + 1) for writer in self.writers]

        def settled(writer: Writer, goal: int) -> bool:
            hangs = writer.seen.hangs_ns
            return len(writer.seen.replies_ns) >= goal or bool(hangs and hangs[-1] > event_ns)

        self.until(lambda: all(settled(writer, goal) for writer, goal in goals), SETTLE_LIMIT_NS)
        self.ping()
        judged = outcome((client.seen for client in self.clients), event_ns)
        from_ns, to_ns = event_ns - TRACE_BEFORE_NS, event_ns + TRACE_AFTER_NS
        trace = {f"{one.seen.kind} {one.seen.number}": one.seen.around(from_ns, to_ns) for one in self.clients}
        return {"outcome": asdict(judged), "trace": trace, "trace_before_ns": TRACE_BEFORE_NS}


class Requests:
    """The standard input as requests and the standard output as answers."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._lines: deque[bytes] = deque()
        self._ended = False
        self._fd = sys.stdin.fileno()
        load.watch(self._fd, select.EPOLLIN, self._read)

    def _read(self, _events: int) -> None:
        data = os.read(self._fd, 65536)
        self._ended = self._ended or not data
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._lines.extend(lines)
        if self._ended:
            self._load.forget(self._fd)

    def serve(self) -> None:
        """Answer requests until `stop` or the end of the input."""
        while True:
            while not self._lines and not self._ended:
                self._load.turn()
            if not self._lines:
                return
            request: dict[str, Any] = json.loads(self._lines.popleft())
            name = request.pop("do")
            if name == "stop":
                return
            try:
                answer = {"done": name, **self._perform(name, request)}
            except (OSError, ValueError, TypeError) as error:
                answer = {"failed": name, "why": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    def _perform(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        match name:
            case "fill":
                return fill(**request)
            case "connect":
                return self._load.connect(**request)
            case "measure":
                return self._load.measure(**request)
            case "ping":
                return self._load.ping()
            case "settle":
                return self._load.settle(**request)
            case "rate":
                self._load.set_rate(int(request["per_second"]))
                return {}
        raise ValueError(f"there is no request {name!r}")


def main() -> None:
    """Serve the requests on the standard input."""
    gc.disable()
    Requests(Load()).serve()


if __name__ == "__main__":
    main()
