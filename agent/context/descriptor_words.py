"""Each kind of descriptor in words for a person: what it is, never what is in it. Pure."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Callable
from typing import Final

from agent.context.deleted import DeletedFile
from agent.context.epoll import Epoll
from agent.context.eventfd import Eventfd
from agent.context.files import File
from agent.context.memfd import Memfd
from agent.context.pipes import Pipe, PipeEnd
from agent.context.record import unpack
from agent.context.shared_files import SharedFile
from agent.context.signalfd import Signalfd
from agent.context.tcp import CONNECTED, HALF_CLOSED, LISTENING, UNCONNECTED, Tcp
from agent.context.timerfd import Timerfd
from agent.context.udp import Udp
from agent.context.unix import Unix
from transport.checkpoint import Records
from transport.context_schema import ConnectionView

_IPV4: Final = 2  # AF_INET, whose value is Linux's own (address_families(7))
_ACCESS: Final = {os.O_RDONLY: "read", os.O_WRONLY: "write", os.O_RDWR: "read and write"}
_SOCKET_KINDS: Final = {1: "stream", 2: "datagram", 5: "seqpacket"}
_MS: Final = 1_000_000

Describe = Callable[[bytes, Records], str]


def described(kind: str, data: bytes, records: Records) -> str:
    """What a description of this kind is; "" for a kind without words. data: its record; records: all of them.

    Raises RestoreError for a record that is none.
    """
    describe = _WORDS.get(kind)
    return "" if describe is None else describe(data, records)


def connection_of(number: int, data: bytes) -> ConnectionView:
    """The TCP socket in the record `data` of descriptor `number`. Raises RestoreError."""
    record = unpack(Tcp, data)
    sent = received = 0
    if record.role in (CONNECTED, HALF_CLOSED):
        state = record.state()
        sent, received = len(state.send_queue), len(state.receive_queue)
    local, peer = endpoint(record.local), endpoint(record.peer)
    match record.role:
        case 1:
            return ConnectionView(number, "listening", local, peer, sent, received)
        case 2:
            return ConnectionView(number, "connected", local, peer, sent, received)
        case 3:
            return ConnectionView(number, "half-closed", local, peer, sent, received)
        case _:
            return ConnectionView(number, "unconnected", local, peer, sent, received)


def endpoint(address: bytes) -> str:
    """`host:port` of a socket address as bind(2) takes it (ip(7), ipv6(7)); "" for none."""
    if len(address) < 8:
        return ""
    family, port = struct.unpack("<H", address[:2])[0], struct.unpack(">H", address[2:4])[0]
    if family == _IPV4:
        return f"{ipaddress.IPv4Address(address[4:8])}:{port}"
    if len(address) < 24:
        return ""
    return f"[{ipaddress.IPv6Address(address[8:24])}]:{port}"


def _access(flags: int) -> str:
    return _ACCESS.get(flags & os.O_ACCMODE, "path only")


def _file(data: bytes, _: Records) -> str:
    record = unpack(File, data)
    at = f" at {record.position}" if record.treatment not in ("device", "directory") else ""
    return f"{record.path} ({record.treatment}, {_access(record.flags)}{at})"


def _shared_file(data: bytes, _: Records) -> str:
    record = unpack(SharedFile, data)
    return f"{record.path} (shared, {_access(record.flags)} at {record.position} of {record.size_bytes} bytes)"


def _deleted_file(data: bytes, _: Records) -> str:
    record = unpack(DeletedFile, data)
    return f"{record.path} (deleted, {_access(record.flags)} at {record.position})"


def _memfd(data: bytes, _: Records) -> str:
    record = unpack(Memfd, data)
    return f"{record.label} ({record.stamp[2]} bytes, seals {record.seals:#x})"


def _pipe(data: bytes, records: Records) -> str:
    record = unpack(PipeEnd, data)
    waiting = ""
    if record.pipe in records:
        pipe = unpack(Pipe, records[record.pipe], record.pipe)
        waiting = f", {sum(map(len, pipe.content))} of {pipe.capacity_bytes} bytes waiting"
    return f"{record.pipe.replace('/', ' ')}, {_access(record.flags)}{waiting}"


def _eventfd(data: bytes, _: Records) -> str:
    record = unpack(Eventfd, data)
    return f"count {record.count}" + (", semaphore" if record.semaphore else "")


def _epoll(data: bytes, _: Records) -> str:
    numbers = [entry[0] for entry in unpack(Epoll, data).entries]
    shown = ", ".join(map(str, numbers[:16])) + (", …" if len(numbers) > 16 else "")
    return f"watches {len(numbers)}" + (f": {shown}" if numbers else "")


def _timerfd(data: bytes, _: Records) -> str:
    record = unpack(Timerfd, data)
    if not record.due_ns:
        return f"clock {record.clock}, not armed"
    beat = f", every {record.interval_ns / _MS:g} ms" if record.interval_ns else ""
    return f"clock {record.clock}, armed{beat}, {record.ticks} expirations to be read"


def _signalfd(data: bytes, _: Records) -> str:
    mask = unpack(Signalfd, data).mask
    return "signals " + ", ".join(str(number) for number in range(1, 65) if mask >> (number - 1) & 1)


def _tcp(data: bytes, _: Records) -> str:
    record = unpack(Tcp, data)
    local, peer = endpoint(record.local), endpoint(record.peer)
    if record.role == LISTENING:
        return f"listens at {local}, backlog {record.backlog}"
    if record.role == UNCONNECTED:
        return f"bound to {local}" if local else "not connected"
    return f"{local} to {peer}" + (", half closed by the peer" if record.role == HALF_CLOSED else "")


def _udp(data: bytes, _: Records) -> str:
    record = unpack(Udp, data)
    local, peer = endpoint(record.local) or "not bound", endpoint(record.peer)
    return f"{local} to {peer}" if peer else local


def _unix(data: bytes, _: Records) -> str:
    record = unpack(Unix, data)
    name = record.name.replace(b"\0", b"@", 1).decode(errors="replace")
    kind = _SOCKET_KINDS.get(record.kind, str(record.kind))
    waiting = sum(map(len, record.content))
    words = f"{kind}, {record.role}" + (f" {name}" if name else "") + (f" with {record.peer}" if record.peer else "")
    return words + (f", {waiting} bytes waiting" if waiting else "")


_WORDS: Final[dict[str, Describe]] = {
    "file": _file,
    "shared-file": _shared_file,
    "deleted-file": _deleted_file,
    "memfd": _memfd,
    "pipe": _pipe,
    "eventfd": _eventfd,
    "epoll": _epoll,
    "timerfd": _timerfd,
    "signalfd": _signalfd,
    "tcp": _tcp,
    "udp": _udp,
    "unix": _unix,
}
