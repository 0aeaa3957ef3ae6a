"""Unix sockets: unix(7). Carried: both ends of a connection within the program, with what is queued in it; listening
sockets; datagram sockets, bound or not.

A connection with somebody outside the program ends in a takeover: the program reads what was queued and then the end of
the stream. A datagram socket that is connected to a name (/dev/log) is connected to that name again. Connections that
nobody has accepted yet are lost. Addresses of both ends of an inner connection, and the credentials that its ends see
(SO_PEERCRED), are those of a socketpair(2) made by the shadow.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from functools import cache

from agent.context.kind import Depends, Restore, Walk, refuse
from agent.context.look import Look
from agent.context.network import Network
from agent.context.record import pack, unpack
from agent.kernel import procfs
from agent.kernel.libc import NR
from agent.kernel.namespaces import in_network_namespace
from agent.kernel.pidfd import get_descriptor
from agent.kernel.unix_diag import LISTEN, SHUT_RECEIVE, SHUT_SEND, UnixDiagnosis, UnixSocket
from agent.reason import Reason

SO_PEEK_OFF = 42
_SO_SNDBUF, _SO_RCVBUF, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 7, 8, 32, 33
_OPTIONS = ((16, 4), (18, 4), (20, 16), (21, 16), (29, 4), (_SO_SNDBUF, 4), (_SO_RCVBUF, 4), (SO_PEEK_OFF, 4))
"""PASSCRED, RCVLOWAT, RCVTIMEO, SNDTIMEO, TIMESTAMP, buffers, PEEK_OFF; and their sizes."""
_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT
_SEND = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_ESTABLISHED = 1
_F_SETFL = 4
_MESSAGE_BYTES_MAX = 1 << 20
_MESSAGES_MAX = 4096
_LOOK_EVERY = 16
"""Options can be changed without a trace; they are read again at every so many checkpoints, and in a dying program."""


@dataclass(frozen=True, slots=True)
class Unix:
    """One unix socket.

    kind: SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET. role: "pair" (`peer` is the key of the other end, "" if that is gone
    or outside), "listening", or "plain" (not connected, or datagrams to a name). name, peer_name: sun_path, with its
    zero byte in front if abstract, b"" if none. directory: what a name that is a relative path starts from. mode,
    owner, group: of the socket file. shutdown: bits of shutdown(2). content: what is queued to be read: messages, or
    one piece of a stream.
    """

    kind: int
    role: str
    nonblocking: bool
    name: bytes
    peer_name: bytes
    peer: str
    directory: str
    backlog: int
    mode: int
    owner: int
    group: int
    shutdown: int
    options: tuple[tuple[int, bytes], ...]
    content: tuple[bytes, ...]


@dataclass(slots=True)
class _Seen:
    """A record and what it was made from. times: how often it was used since."""

    flags: int
    known: UnixSocket | None
    peer: str
    data: bytes
    times: int = 0


class UnixKind:
    """Captures and restores the unix sockets of one program."""

    name = "unix"
    depends: Depends = "content"

    def __init__(self, network: Network) -> None:
        self._network = network
        self._diagnosis: UnixDiagnosis | None = None
        self._seen: dict[int, _Seen] = {}

    def close(self) -> None:
        """Close what is open."""
        if self._diagnosis is not None:
            self._diagnosis.close()
            self._diagnosis = None

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether it is a unix socket."""
        return look.link.startswith("socket:") and self._network.protocol(look, walk).startswith("UNIX")

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Who it is connected to, and what is queued."""
        if _rights_in_flight(look):
            raise refuse(_rights_reason(look, walk))
        known = self._known(look.inode, walk)
        peer = self._peer(known, walk)
        seen = self._seen.get(look.inode)
        same = seen is not None and (seen.flags, seen.known, seen.peer) == (look.flags, known, peer) and not walk.dying
        if same and seen is not None:
            seen.times += 1
            if seen.times % _LOOK_EVERY and not _may_have_content(known):
                return seen.data
        with _adopted(walk, look.number) as source:
            record = _record(source, look, known, peer, walk)
        before = walk.previous.get("ofd/" + walk.keys[look.number])
        if record.kind == socket.SOCK_DGRAM and before is not None:
            record = _with_empty_messages(record, unpack(Unix, before))
        data = pack(record)
        if not same:
            self._remember(look.inode, _Seen(look.flags, known, peer, data), walk)
        elif seen is not None:
            seen.data = data
        return data

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """Descriptors on their way; peers outside of the program."""
        if _rights_in_flight(look):
            return [_rights_reason(look, walk)]
        known = self._known(look.inode, walk)
        if known is None:
            return []
        where = walk.where(look.number)
        if known.state == LISTEN and known.waiting:
            what = f"{known.waiting} connections to a unix socket wait to be accepted; a takeover loses them"
            return [Reason(what, where, lost=True)]
        if known.peer and known.peer not in walk.socket_keys():
            what = "a unix socket connected to another process; after a takeover it is closed"
            return [Reason(what, where, "let the program connect anew when it is closed", lost=True)]
        return []

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """An inner connection is made with the first of its ends."""
        record = unpack(Unix, data, key)
        if key in restore.opened:
            return
        if record.role == "pair":
            _restore_pair(key, record, restore)
            return
        kind = record.kind | (os.O_NONBLOCK if record.nonblocking else 0)
        number = restore.place(key, restore.batch.add(NR.SOCKET, socket.AF_UNIX, kind, 0, name=f"socket of {key}"))
        _set_options(record, number, key, restore)
        if record.name:
            _bind(record, number, key, restore)
            _send_to_name(record, key, restore)
        if record.role == "listening":
            restore.batch.add(NR.LISTEN, number, record.backlog, name=f"listen of {key}")
        elif record.peer_name:
            restore.later.append(lambda: _connect(record, number, key, restore))

    def _remember(self, inode: int, seen: _Seen, walk: Walk) -> None:
        if len(self._seen) > 64 + 2 * len(walk.looks):
            self._seen = {other: one for other, one in self._seen.items() if other in walk.socket_keys()}
        self._seen[inode] = seen

    def _known(self, inode: int, walk: Walk) -> UnixSocket | None:
        if self._diagnosis is None:
            namespace = procfs.open_file(walk.pid, "ns/net")
            try:
                with in_network_namespace(namespace):
                    self._diagnosis = UnixDiagnosis()
            finally:
                os.close(namespace)
        return self._diagnosis.get(inode)

    def _peer(self, known: UnixSocket | None, walk: Walk) -> str:
        """The key of the other end, if it is the program's and is connected to this one: a datagram socket to which
        others are connected by its name is not connected to them."""
        key = walk.socket_keys().get(known.peer, "") if known is not None else ""
        if not key or known is None or known.kind != socket.SOCK_DGRAM:
            return key
        other = self._known(known.peer, walk)
        return key if other is not None and other.peer == known.inode else ""


def _may_have_content(known: UnixSocket | None) -> bool:
    """Whether something may wait to be read; an empty datagram shows as nothing."""
    return known is None or known.kind == socket.SOCK_DGRAM or (known.state != LISTEN and known.waiting > 0)


def _record(source: socket.socket, look: Look, known: UnixSocket | None, peer: str, walk: Walk) -> Unix:
    kind = source.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    name, peer_name = _bytes(source.getsockname()), _peer_name(source)
    state = known.state if known is not None else 0
    role = "listening" if state == LISTEN else "plain"
    # Who connects a datagram socket to a name makes the named one, too, look connected (unix_dgram_connect).
    if peer or (state == _ESTABLISHED and (kind != socket.SOCK_DGRAM or not (name or peer_name))):
        role = "pair"
    directory, status = _socket_file(name, walk) if name and role != "pair" else ("", None)
    return Unix(
        kind=kind,
        role=role,
        nonblocking=bool(look.flags & os.O_NONBLOCK),
        name=name,
        peer_name=peer_name,
        peer=peer,
        directory=directory,
        backlog=known.backlog if known is not None else 0,
        mode=status.st_mode & 0o7777 if status else 0,
        owner=status.st_uid if status else 0,
        group=status.st_gid if status else 0,
        shutdown=known.shutdown if known is not None else 0,
        options=tuple((number, _option(source, number, size)) for number, size in _OPTIONS),
        content=() if role == "listening" else _queued(source, kind, known),
    )


def _with_empty_messages(record: Unix, before: Unix) -> Unix:
    """An empty datagram can be peeked at once only: it is taken to be still there if all others are."""
    same = [message for message in before.content if message] == [message for message in record.content if message]
    return replace(record, content=before.content) if same and len(before.content) > len(record.content) else record


def _queued(source: socket.socket, kind: int, known: UnixSocket | None) -> tuple[bytes, ...]:
    """Everything that waits to be read. The peek offset, by which messages are walked through, is put back."""
    if kind == socket.SOCK_STREAM and (known is None or not known.waiting):
        return ()
    offset = source.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF)
    source.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
    found: list[bytes] = []
    try:
        while len(found) < _MESSAGES_MAX:
            data = source.recv(_MESSAGE_BYTES_MAX, _PEEK)
            if not data and kind != socket.SOCK_DGRAM:
                break  # the end of the stream, or of the messages after the peer's shutdown
            found.append(data)
    except OSError:  # nothing more, or not connected
        pass
    finally:
        source.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, offset)
    return (b"".join(found),) if kind == socket.SOCK_STREAM and found else tuple(found)


def _restore_pair(key: str, record: Unix, restore: Restore) -> None:
    batch, table = restore.batch, restore.table
    batch.add(NR.SOCKETPAIR, socket.AF_UNIX, record.kind, 0, bytes(8), name=f"socketpair of {key}")
    numbers = []
    for _ in range(2):
        numbers.append(table.lowest())
        table.take(numbers[-1])
    parked, parked_peer = (table.park(batch, number) for number in numbers)
    other = None
    if record.peer in restore.places and restore.records.get("ofd/" + record.peer):
        other = unpack(Unix, restore.records["ofd/" + record.peer], record.peer)
    number = restore.place_parked(key, parked)
    _set_options(record, number, key, restore)
    if other is None:
        _send(record, parked_peer, key, restore)
        table.close(batch, parked_peer)
        _finish_end(record, number, key, restore)
        return
    peer_number = restore.place_parked(record.peer, parked_peer)
    _set_options(other, peer_number, record.peer, restore)
    _send(record, peer_number, key, restore)
    _send(other, number, record.peer, restore)
    _finish_end(record, number, key, restore)
    _finish_end(other, peer_number, record.peer, restore)


def _send(record: Unix, through: int, key: str, restore: Restore) -> None:
    """Fill the queue of `record` through its other end."""
    for message in record.content:
        name = f"content of {key}"
        restore.batch.add(NR.SENDTO, through, message, len(message), _SEND, 0, 0, name=name, expect=len(message))


def _finish_end(record: Unix, number: int, key: str, restore: Restore) -> None:
    how = {SHUT_RECEIVE: socket.SHUT_RD, SHUT_SEND: socket.SHUT_WR, 3: socket.SHUT_RDWR}.get(record.shutdown)
    if how is not None:
        restore.batch.add(NR.SHUTDOWN, number, how, name=f"shutdown of {key}", may_fail=True)
    if record.nonblocking:
        restore.batch.add(NR.FCNTL, number, _F_SETFL, os.O_RDWR | os.O_NONBLOCK, name=f"flags of {key}")


def _set_options(record: Unix, number: int, key: str, restore: Restore) -> None:
    """Those that differ from a new socket's."""
    usual = _options_of_new(record.kind)
    for name, value in record.options:
        if (name, value) in usual:
            continue
        if name in (_SO_SNDBUF, _SO_RCVBUF):  # the kernel doubles what it is given
            name = _SO_SNDBUFFORCE if name == _SO_SNDBUF else _SO_RCVBUFFORCE
            value = (int.from_bytes(value, "little") // 2).to_bytes(4, "little")
        what = f"option {name} of {key}"
        restore.batch.add(NR.SETSOCKOPT, number, socket.SOL_SOCKET, name, value, len(value), name=what)


@cache
def _options_of_new(kind: int) -> frozenset[tuple[int, bytes]]:
    """What a new socket has on this node."""
    with socket.socket(socket.AF_UNIX, kind) as fresh:
        return frozenset((name, _option(fresh, name, size)) for name, size in _OPTIONS)


def _bind(record: Unix, number: int, key: str, restore: Restore) -> None:
    """A socket file that the name's last owner left is removed, as a program that starts would do."""
    address = _address(record.name)
    path = record.name.rstrip(b"\0")
    shown = path.decode(errors="backslashreplace").replace("\0", "@")
    has_file = not record.name.startswith(b"\0")
    if record.directory:
        directory = os.fsencode(record.directory) + b"\0"
        restore.batch.add(NR.CHDIR, directory, name=f"chdir to {record.directory}")
    if has_file:
        restore.batch.add(NR.UNLINK, path + b"\0", name=f"unlink of {shown}", may_fail=True)
    restore.batch.add(NR.BIND, number, address, len(address), name=f"bind of {key} to {shown}")
    if has_file and record.mode:
        restore.batch.add(NR.CHMOD, path + b"\0", record.mode, name=f"mode of {shown}")
        restore.batch.add(NR.CHOWN, path + b"\0", record.owner, record.group, name=f"owner of {shown}")


def _send_to_name(record: Unix, key: str, restore: Restore) -> None:
    """Fill the queue of a bound datagram socket; who sent the messages is lost."""
    if not record.content:
        return
    address = _address(record.name)
    through = restore.batch.add(NR.SOCKET, socket.AF_UNIX, record.kind, 0, name=f"sender to {key}")
    for message in record.content:
        what = f"content of {key}"
        arguments = (through, message, len(message), _SEND, address, len(address))
        restore.batch.add(NR.SENDTO, *arguments, name=what, expect=len(message))
    restore.batch.add(NR.CLOSE, through, name=f"close of the sender to {key}")


def _connect(record: Unix, number: int, key: str, restore: Restore) -> None:
    """Whoever has the name on this node."""
    address = _address(record.peer_name)
    restore.batch.add(NR.CONNECT, number, address, len(address), name=f"connect of {key}", may_fail=True)


def _address(name: bytes) -> bytes:
    """struct sockaddr_un; a path has its zero byte, an abstract name has none."""
    family = socket.AF_UNIX.to_bytes(2, "little")
    return family + name if name.startswith(b"\0") else family + name.rstrip(b"\0") + b"\0"


def _bytes(address: str | bytes) -> bytes:
    return address if isinstance(address, bytes) else os.fsencode(address)


def _peer_name(source: socket.socket) -> bytes:
    try:
        return _bytes(source.getpeername())
    except OSError:
        return b""


def _socket_file(name: bytes, walk: Walk) -> tuple[str, os.stat_result | None]:
    """The directory that a relative name starts from, and the file's status if there is one."""
    if name.startswith(b"\0"):
        return "", None
    path, directory = os.fsdecode(name), ""
    if path.startswith("/"):
        seen = f"/proc/{walk.pid}/root{path}"
    else:
        directory = os.readlink(f"/proc/{walk.pid}/cwd")
        seen = f"/proc/{walk.pid}/cwd/{path}"
    try:
        return directory, os.stat(seen)
    except OSError:
        return directory, None


def _option(source: socket.socket, number: int, size: int) -> bytes:
    return source.getsockopt(socket.SOL_SOCKET, number, size)


def _adopted(walk: Walk, number: int) -> socket.socket:
    """A duplicate of the program's socket; closed at once, it changes nothing."""
    return socket.socket(fileno=get_descriptor(walk.pidfd, number))


def _rights_in_flight(look: Look) -> bool:
    return b"scm_fds:" in look.details and look.field("scm_fds") != "0"


def _rights_reason(look: Look, walk: Walk) -> Reason:
    what = "descriptors that were sent over a unix socket and not received yet (SCM_RIGHTS)"
    return Reason(what, walk.where(look.number), "the next checkpoint after they are received can be taken")
