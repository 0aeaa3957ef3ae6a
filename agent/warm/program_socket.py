"""The Unix socket beside the program: one connection of it at a time, understood and answered. In the event loop.

The kernel says who is at the other end (SO_PEERCRED, unix(7)): root, the agent's own user and the program's are heard.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog

from agent.warm.said import FORMAT, Gone, Hello, Listener, Message, Said, frame
from transport.acceptor import Acceptor
from transport.errors import ControlError, FrameError

log = structlog.get_logger()

READ_BYTES: Final = 1 << 20
WRITE_BUFFER_BYTES: Final = 4 << 20


class ProgramSocket:
    """See the head of this file. heard: told of each thing that the program says, in order; `Gone` ends a connection.
    welcome: the answer to `hello`, without kind and format."""

    def __init__(self, path: Path, uid: int, heard: Callable[[Said], None], welcome: Callable[[], Message]) -> None:
        """uid: of the program."""
        self.path = path
        self._uid = uid
        self._heard = heard
        self._welcome = welcome
        self._writer: asyncio.StreamWriter | None = None
        self._acceptor: Acceptor | None = None
        self._settled = asyncio.Condition()
        self.is_welcome = False

    @property
    def is_connected(self) -> bool:
        """Whether the program is at the other end."""
        return self._writer is not None

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._acceptor is not None

    def open(self) -> None:
        """Listen. Raises ControlError when the path can't be used."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self.path.unlink(missing_ok=True)
            listener.bind(str(self.path))
            os.chown(self.path, self._uid, -1)
            self.path.chmod(0o600)
            listener.listen(4)
        except OSError as error:
            listener.close()
            raise ControlError(
                f"{self.path}: {error.strerror or error}", hint="a socket's path has at most 107 bytes"
            ) from None
        self._acceptor = Acceptor(listener, self._serve)

    async def close(self) -> None:
        """End the connection, and listen no more."""
        if self._acceptor is not None:
            self.path.unlink(missing_ok=True)
            await self._acceptor.close()
            self._acceptor = None

    def send(self, *messages: Message) -> None:
        """Say something to the program, if it is there."""
        self.write(map(frame, messages))

    def write(self, frames: Iterable[bytes]) -> None:
        """The same for what is encoded already."""
        if self._writer is not None and self.is_welcome:
            self._writer.writelines(frames)

    async def pour(self, frames: Iterable[bytes]) -> None:
        """Write what is encoded already, as fast as the program reads it."""
        writer = self._writer
        for one in frames:
            if writer is None or writer is not self._writer or not self.is_welcome:
                return
            writer.write(one)
            await self.drain()

    async def drain(self) -> None:
        """Wait until the program has read most of what was sent."""
        writer = self._writer
        if writer is not None:
            try:
                await writer.drain()
            except OSError:
                pass  # Its reader says so, too.

    async def silence(self, limit_s: float) -> None:
        """Wait until a program that has ended has been heard to the end."""
        try:
            async with asyncio.timeout(limit_s), self._settled:
                await self._settled.wait_for(lambda: self._writer is None)
        except TimeoutError:
            log.warning("a process holds the connection of the program that has ended", path=str(self.path))

    async def _serve(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        pid, uid, _ = struct.unpack("iII", credentials)
        if uid not in (0, os.geteuid(), self._uid):
            log.warning("a stranger is at the program's socket", user=uid, pid=pid)
            connection.close()
            return
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=READ_BYTES)
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        former, self._writer, self.is_welcome = self._writer, writer, False
        if former is not None:
            former.write(frame(_error("replaced", "another connection of the same program came")))
            former.close()
            self._heard(Gone())
        try:
            await self._converse(reader, writer)
        finally:
            writer.close()
            if self._writer is writer:
                self._writer, self.is_welcome = None, False
                self._heard(Gone())
                async with self._settled:
                    self._settled.notify_all()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener = Listener()
        try:
            while data := await reader.read(READ_BYTES):
                for said in listener.feed(data):
                    if writer is not self._writer:
                        return
                    self._take(said)
        except FrameError as error:
            log.warning("the program is not understood", reason=error.what)
            writer.write(frame(_error("protocol", error.what)))
        except OSError:
            pass

    def _take(self, said: Said) -> None:
        if isinstance(said, Hello):
            self.is_welcome = True
            self.send({"kind": "welcome", "format": FORMAT, **self._welcome()})
        elif not self.is_welcome:
            raise FrameError("hello comes first")
        self._heard(said)


def _error(code: str, what: str) -> Message:
    return {"kind": "error", "code": code, "what": what, "hint": "", "structure": None}
