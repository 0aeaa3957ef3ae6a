"""A TCP and UDP server that can be stopped, described, and continued in another process.

Until the agent moves whole processes, its tests move the sockets alone: the server stops at a command, says what its
descriptors are, and a second one, started elsewhere with the same description, goes on with the sockets that it finds
at these numbers.

Commands are JSON lines on standard input, answers JSON lines on standard output:
  {"serve": {"mode": "echo"|"blast"|"check"|"oneshot", "listen": [[family, address, port], ...], "bytes": n}}
  {"adopt": {"mode": ..., "sockets": {number: [role, family, kind, done], ...}, "bytes": n}}   make empty sockets
  {"go": true}     serve them
  {"hold": true}   stop serving; the answer is {"sockets": ...}, as `adopt` wants them
Modes: echo sends back what it reads; blast sends `bytes` bytes of a pattern to each connection and then what it has
read; check compares what it reads with the pattern and answers the number of bytes at the end of the stream, or "bad";
oneshot answers once and closes.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from dataclasses import dataclass
from typing import Any


def pattern(start: int, size: int) -> bytes:
    """`size` bytes of an endless sequence in which every place is recognisable."""
    first = start // 8
    words = b"".join(index.to_bytes(8, "big") for index in range(first, first + size // 8 + 2))
    return words[start - first * 8 :][:size]


@dataclass
class Served:
    """One connection: how many bytes it has been sent or has sent, and what must still go out."""

    socket: socket.socket
    done: int = 0
    waiting: bytes = b""


class Server:
    """Serves its sockets between commands."""

    def __init__(self) -> None:
        self.mode = "echo"
        self.bytes = 0
        self.listening: dict[int, socket.socket] = {}
        self.datagrams: dict[int, socket.socket] = {}
        self.connections: dict[int, Served] = {}
        self.serving = False
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.commands = b""

    def run(self) -> None:
        """Serve until standard input ends."""
        while True:
            for number, events in self.poll.poll():
                if number == 0:
                    if not self.read_commands():
                        return
                elif self.serving:
                    self.serve(number, events)

    def read_commands(self) -> bool:
        data = os.read(0, 65536)
        if not data:
            return False
        self.commands += data
        *lines, self.commands = self.commands.split(b"\n")
        for line in lines:
            for name, value in json.loads(line).items():
                print(json.dumps(getattr(self, f"command_{name}")(value)), flush=True)
        return True

    def command_serve(self, value: dict[str, Any]) -> object:
        self.mode, self.bytes = value["mode"], value.get("bytes", 0)
        for family, address, port in value["listen"]:
            one = socket.socket(family, socket.SOCK_STREAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address, port))
            one.listen(33)
            one.setblocking(False)
            self.listening[one.fileno()] = one
        for family, address, port in value.get("datagrams", []):
            one = socket.socket(family, socket.SOCK_DGRAM)
            one.bind((address, port))
            one.setblocking(False)
            self.datagrams[one.fileno()] = one
        return self.command_go(True)

    def command_adopt(self, value: dict[str, Any]) -> object:
        self.mode, self.bytes = value["mode"], value["bytes"]
        numbers = sorted(map(int, value["sockets"]))
        for number in numbers:
            role, family, kind, done = value["sockets"][str(number)]
            fresh = socket.socket(family, kind)
            os.set_inheritable(fresh.fileno(), False)
            if fresh.fileno() != number:
                assert not os.path.exists(f"/proc/self/fd/{number}"), number
                os.dup2(fresh.fileno(), number)
                fresh.close()
            else:
                fresh.detach()
            one = socket.socket(family, kind, 0, fileno=number)
            one.setblocking(False)
            if role == "listening":
                self.listening[number] = one
            elif role == "datagrams":
                self.datagrams[number] = one
            else:
                self.connections[number] = Served(one, done)
        return {"pid": os.getpid()}

    def command_go(self, value: object) -> object:
        self.serving = True
        for number in (*self.listening, *self.datagrams):
            self.poll.register(number, select.EPOLLIN)
        for number in self.connections:
            self.poll.register(number, select.EPOLLIN | select.EPOLLOUT)
        return {"pid": os.getpid()}

    def command_hold(self, value: object) -> object:
        self.serving = False
        sockets: dict[int, tuple[str, int, int, int]] = {}
        for number in (*self.listening, *self.datagrams, *self.connections):
            self.poll.unregister(number)
        for number, one in self.listening.items():
            sockets[number] = ("listening", one.family, socket.SOCK_STREAM, 0)
        for number, one in self.datagrams.items():
            sockets[number] = ("datagrams", one.family, socket.SOCK_DGRAM, 0)
        for number, served in self.connections.items():
            sockets[number] = ("connection", served.socket.family, socket.SOCK_STREAM, served.done)
        return {"mode": self.mode, "bytes": self.bytes, "sockets": sockets}

    def serve(self, number: int, events: int) -> None:
        if number in self.listening:
            self.accept(self.listening[number])
        elif number in self.datagrams:
            data, peer = self.datagrams[number].recvfrom(65536)
            self.datagrams[number].sendto(data, peer)
        elif number in self.connections:
            served = self.connections[number]
            try:
                getattr(self, f"serve_{self.mode}")(served)
            except BlockingIOError:
                pass
            except OSError:
                self.close(served)

    def accept(self, listening: socket.socket) -> None:
        try:
            one, _ = listening.accept()
        except BlockingIOError:
            return
        one.setblocking(False)
        self.connections[one.fileno()] = Served(one)
        self.poll.register(one.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def close(self, served: Served) -> None:
        number = served.socket.fileno()
        self.poll.unregister(number)
        del self.connections[number]
        served.socket.close()

    def read(self, served: Served) -> bytes:
        data = served.socket.recv(65536)
        if not data:
            self.close(served)
        return data

    def serve_echo(self, served: Served) -> None:
        self.want_output(served, bool(served.waiting))
        if served.waiting:
            served.waiting = served.waiting[served.socket.send(served.waiting) :]
        else:
            served.waiting = self.read(served)
            if served.waiting:
                served.waiting = served.waiting[served.socket.send(served.waiting) :]
                self.want_output(served, bool(served.waiting))

    def serve_oneshot(self, served: Served) -> None:
        if data := self.read(served):
            served.socket.send(data)
            self.close(served)

    def serve_blast(self, served: Served) -> None:
        while served.done < self.bytes:
            chunk = pattern(served.done, min(65536, self.bytes - served.done))
            served.done += served.socket.send(chunk)
        self.want_output(served, False)
        self.serve_echo(served)

    def serve_check(self, served: Served) -> None:
        self.want_output(served, False)
        data = served.socket.recv(65536)
        if data != pattern(served.done, len(data)):
            served.socket.send(b"bad\n")
            self.close(served)
            return
        served.done += len(data)
        if not data:
            served.socket.send(f"{served.done}\n".encode())
            self.close(served)

    def want_output(self, served: Served, wanted: bool) -> None:
        self.poll.modify(served.socket.fileno(), select.EPOLLIN | (select.EPOLLOUT if wanted else 0))


if __name__ == "__main__":
    sys.setrecursionlimit(200)
    Server().run()
