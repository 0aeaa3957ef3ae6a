"""The agent's side of the scout: at a stop it asks about connections, and looks for and copies what was written, beside
the tracer's own work.

An answer is a gift: one that is late, or missing because the scout is gone, costs the stop only what it would have cost
without a scout. All methods but `start` and `close` belong to the tracer thread.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import structlog

from agent.kernel.sock_diag import Sockets
from agent.memory.page_ranges import NO_RANGES, Ranges
from agent.memory.sighting import Sighting
from agent.scout.board import (
    ANSWERED,
    ASKED,
    CONNECTIONS,
    CONNECTIONS_EDITION,
    CONNECTIONS_MAX,
    COPIED,
    KNOWN,
    MAPS,
    PRIVATE,
    PRIVATE_EDITION,
    PRIVATE_MAX,
    READY,
    REVERTED,
    ROWS_ANSWERED,
    ROWS_KNOWN,
    RUNS,
    RUNS_MAX,
    SEEN,
    Board,
    create,
)
from agent.scout.process import GO

log = structlog.get_logger()

PATIENCE_S: Final = 0.001
"""How long a stop waits for an answer that is not there yet when everything else is done."""
REST_QUESTIONS: Final = 8
"""After a late answer it is not asked so many times: the machine has no processor to spare now."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_PROCESS: Final = (
    "import os, sys; os.nice(19); sys.path.insert(0, sys.argv[1]); from agent.scout.process import main;"
    " main(int(sys.argv[2]), int(sys.argv[3]))"
)


@dataclass(frozen=True, slots=True)
class Question:
    """runs, private: see `agent.memory.tracking`. connections: requests made by `agent.kernel.sock_diag.request_one`;
    another object when they change, so that they are handed over once."""

    runs: Ranges
    private: Ranges
    connections: Sequence[bytes]


class Scout:
    """Until `start`, and after its process has ended, it answers nothing."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._board: Board | None = None
        self._asked = 0
        self._resting = 0
        self._asked_rows = 0
        self._private = NO_RANGES
        self._connections: Sequence[bytes] = ()

    def start(self) -> None:
        """Start the process; it is ready after a quarter of a second of what others leave it. Nothing is started where
        there is only one processor. By the thread that is the agent's main one, whose child it becomes."""
        if len(os.sched_getaffinity(0)) < 2:
            return
        board = create()
        own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                numbers = [theirs.fileno(), board]
                command = [sys.executable, "-I", "-c", _PROCESS, str(_ROOT), *map(str, numbers)]
                null = subprocess.DEVNULL
                environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
                self._process = subprocess.Popen(
                    command, stdin=null, stdout=null, pass_fds=numbers, start_new_session=True, env=environment
                )
            self._board = Board(board)
        finally:
            os.close(board)
        own.setblocking(False)
        self._connection = own

    def __enter__(self) -> Scout:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._connection is not None:
            self._connection.close()
            self._process.wait()
            self._connection = self._process = self._board = None

    @property
    def is_ready(self) -> bool:
        """Whether it follows a process, and would answer."""
        return self._board is not None and self._board.words[READY] == 1

    @property
    def is_idle(self) -> bool:
        """Whether it has answered all that it was asked."""
        return self._board is None or self._board.words[ANSWERED] == self._board.words[ASKED]

    def follow(self, pid: int) -> None:
        """Its process is this one from now on; 0: none. An exec makes another process of it."""
        self._asked = self._asked_rows = 0
        if self._board is not None:
            self._board.words[READY] = 0
            if not self._send(str(pid).encode()):
                self._board = None  # It would answer for the process before.

    def ask(self, question: Question) -> None:
        """Have it look; whatever writes to the memory must stand still until `sighting`."""
        board = self._board
        if board is None or not self.is_ready or not fits(question):
            return
        if self._resting:
            self._resting -= 1
            return
        if not self.is_idle:
            return
        words = board.words
        board.runs[: len(question.runs)] = question.runs
        words[RUNS] = len(question.runs)
        if question.private is not self._private:
            self._private = question.private
            board.private[: len(question.private)] = question.private
            words[PRIVATE] = len(question.private)
            words[PRIVATE_EDITION] += 1
        if question.connections is not self._connections:
            self._connections = question.connections
            board.write_requests(question.connections)
            words[CONNECTIONS_EDITION] += 1
        self._asked = self._asked_rows = words[ASKED] = words[ASKED] + 1
        self._send(GO)

    def rows(self) -> Sockets | None:
        """The rows of the connections that it was asked about, in their order, all zeros for one that is there no more;
        None if it was not asked, is late, or does not know. To be asked for once."""
        asked, self._asked_rows = self._asked_rows, 0
        board = self._board
        if not asked or board is None or not self._is_answered(board, ROWS_ANSWERED, asked):
            return None
        return board.connections[: board.words[CONNECTIONS]].copy() if board.words[ROWS_KNOWN] else None

    def sighting(self) -> Sighting | None:
        """What it found in the memory, as `rows`."""
        asked, self._asked = self._asked, 0
        board = self._board
        if not asked or board is None or not self._is_answered(board, ANSWERED, asked):
            return None
        words = board.words
        if not words[KNOWN]:
            return None
        found, copied = board.found, words[COPIED]
        return Sighting(
            found[:copied].copy(),
            found[copied : copied + words[SEEN]].copy(),
            board.reverted[: words[REVERTED]].copy(),
            bytes(board.maps[: words[MAPS]]),
            board.rows,
        )

    def _is_answered(self, board: Board, word: int, asked: int) -> bool:
        until_s = 0.0
        while board.words[word] != asked:
            until_s = until_s or time.monotonic() + PATIENCE_S
            if time.monotonic() > until_s:
                self._resting = REST_QUESTIONS
                return False
        return True

    def forget_memory(self) -> None:
        """What it was asked about, if it was, has changed since: there is no sighting."""
        self._asked = 0

    def forget_rows(self) -> None:
        """The stop in which it was asked is over."""
        self._asked_rows = 0

    def _send(self, message: bytes) -> bool:
        """Whether it will read this."""
        if self._connection is None:
            return False
        try:
            self._connection.send(message)
        except BlockingIOError:  # It is stopped, and has more to read than it will need.
            return False
        except (BrokenPipeError, ConnectionResetError):
            log.warning("the scout has ended; stops are longer without it", remedy="restart the agent")
            self._board = None
            return False
        return True


def fits(question: Question) -> bool:
    """Whether there is room for it on the board."""
    return (
        len(question.runs) <= RUNS_MAX
        and len(question.private) <= PRIVATE_MAX
        and len(question.connections) <= CONNECTIONS_MAX
    )
