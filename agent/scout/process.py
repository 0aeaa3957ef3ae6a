"""The scout: a second process that reads a stopped program's memory while the tracer reads the rest of its context.

A thread would not do: the tracer thread keeps the interpreter for itself throughout a stop. It is a child of the agent,
changes nothing, and ends when the agent's end of the socket is closed.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

import numpy as np

from agent.errors import KernelError, TraceeGone
from agent.kernel import scheduling
from agent.kernel.namespaces import in_network_namespace
from agent.kernel.pagemap import Pagemap, RevertScan
from agent.kernel.procfs import open_file
from agent.kernel.socket_query import SocketQuery
from agent.kernel.vm import Contents, ProcessMemory
from agent.memory.page_ranges import LONG_BYTES, NO_RANGES, Ranges, count_pages, join
from agent.scout.board import (
    ANSWERED,
    ASKED,
    CONNECTIONS_EDITION,
    COPIED,
    FOUND_MAX,
    KNOWN,
    MAPS,
    PRIVATE,
    PRIVATE_EDITION,
    READY,
    REVERTED,
    ROWS_ANSWERED,
    ROWS_KNOWN,
    ROWS_MAX,
    RUNS,
    SEEN,
    Board,
)

GO: Final = b"g"
"""A question is on the board. Any other message is the pid of the process to follow from now on, in decimal."""


def main(connection_at: int, board_at: int) -> None:
    """Serve the agent at the other end of the socket until it closes it."""
    board = Board(board_at)
    os.close(board_at)
    board.touch()
    _be_quick()
    with socket.socket(fileno=connection_at) as connection:
        target: _Target | None = None
        while message := connection.recv(64):
            if message != GO:
                target = _follow(target, int(message))
                board.words[READY] = target is not None
            elif target is not None:
                _answer(board, target)


def _be_quick() -> None:
    """It has started when nobody else had anything to do; from now on a program waits for it."""
    try:
        scheduling.be_realtime()
    except KernelError:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)


class _Target:
    """The process that is followed. Raises KernelError, TraceeGone."""

    def __init__(self, pid: int) -> None:
        self._pagemap = Pagemap(pid)
        self._memory = ProcessMemory(pid)
        self._maps = open_file(pid, "maps")
        self._reverts: RevertScan | None = None
        self._private_edition = self._connections_edition = -1
        namespace = open_file(pid, "ns/net")
        try:
            with in_network_namespace(namespace):
                self._query = SocketQuery()
        finally:
            os.close(namespace)

    def close(self) -> None:
        """Let go of it."""
        self._pagemap.close()
        self._memory.close()
        os.close(self._maps)
        self._query.close()

    def ask(self, board: Board) -> None:
        """Ask the kernel about the connections on the board, and enter what it says."""
        if (edition := board.words[CONNECTIONS_EDITION]) != self._connections_edition:
            self._query.prepare(board.read_requests())
            self._connections_edition = edition
        rows = self._query.ask()
        board.connections[: len(rows)] = rows

    def written(self, runs: Ranges) -> Ranges:
        """What was written in the runs, in their order."""
        return join(self._pagemap.written(start, end, check_registered=True) for start, end in runs.tolist())

    def copy(self, of: Ranges, rows: Contents) -> bool:
        """Whether all of it could be read."""
        return not len(self._memory.read(of, rows))

    def reverted(self, private: Ranges, edition: int) -> Ranges:
        """See `RevertScan`; a new edition is of other ranges."""
        if edition != self._private_edition:
            self._private_edition = edition
            self._reverts = RevertScan(self._pagemap, private.copy()) if len(private) else None
        return NO_RANGES if self._reverts is None else self._reverts.run()

    def read_maps(self, into: memoryview) -> int:
        """How many bytes they have; 0 when `into` is too short."""
        total = 0
        while total < len(into):
            got = os.preadv(self._maps, [into[total:]], total)  # The kernel gives a page of text at a time.
            if not got:
                return total
            total += got
        return 0


def _follow(before: _Target | None, pid: int) -> _Target | None:
    if before is not None:
        before.close()
    try:
        return _Target(pid) if pid else None
    except (KernelError, TraceeGone, OSError):
        return None


def _answer(board: Board, target: _Target) -> None:
    words = board.words
    number = words[ASKED]
    # Connections first: the tracer comes to them before it is through.
    try:
        target.ask(board)
        words[ROWS_KNOWN] = 1
    except KernelError:  # Too many answers for the socket's buffer.
        words[ROWS_KNOWN] = 0
    words[ROWS_ANSWERED] = number
    try:
        words[KNOWN] = _look(board, target)
    except (KernelError, TraceeGone, OSError):  # It is not registered any more, or gone.
        words[KNOWN] = 0
    words[ANSWERED] = number


def _look(board: Board, target: _Target) -> bool:
    """Whether all of it is on the board."""
    words = board.words
    found = target.written(board.runs[: words[RUNS]])
    if len(found) > FOUND_MAX:
        return False
    short = (found[:, 1] - found[:, 0]) < LONG_BYTES
    if not short.all():
        found = np.concatenate((found[short], found[~short]))
    copied = int(short.sum())
    board.found[: len(found)] = found
    if count_pages(found[:copied]) > ROWS_MAX or not target.copy(found[:copied], board.rows):
        copied = 0
    words[COPIED], words[SEEN] = copied, len(found) - copied
    reverted = target.reverted(board.private[: words[PRIVATE]], words[PRIVATE_EDITION])
    board.reverted[: len(reverted)] = reverted
    words[REVERTED] = len(reverted)
    words[MAPS] = target.read_maps(board.maps)
    return True
