"""The leases of this node's primaries in a shared memory file: the daemon writes them, the watchdog reads them.

    header   64 bytes: magic, pid of the watchdog, when it last looked at all slots
    slot   1024 bytes: what the daemon says (sequence, deadline, token, names), at 960 what the watchdog answers (the
           last stop, how often it let somebody go on)

All numbers are aligned u64 in the machine's order, each written by one side only, so each is seen whole. What must
be seen together is under a sequence number that is odd while it is written. Should the daemon die in the middle of
writing, the watchdog goes on with what it knew, whose deadline then passes. Times are CLOCK_BOOTTIME in nanoseconds.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transport.errors import ConfigError

SLOTS: Final = 64
SLOT_BYTES: Final = 1024
HEADER_BYTES: Final = 64
FILE_BYTES: Final = HEADER_BYTES + SLOTS * SLOT_BYTES
MAGIC: Final = int.from_bytes(b"KGMLEAS2", "little")
NO_LEASE_NS: Final = 0

_WORD: Final = struct.Struct("=Q")
_NAME_BYTES: Final = (64, 64, 16, 256, 128, 256)
_NAMES: Final = struct.Struct("=" + "".join(f"{size}s" for size in _NAME_BYTES))
_PID_AT, _BEAT_AT = 8, 16
_SEQUENCE, _DEADLINE, _TOKEN, _PROCESS, _NAMES_AT, _ANSWER, _RETURNS = 0, 8, 16, 24, 32, 960, 992
_READS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Watched:
    """One primary. pid: of the program. address: "10.0.0.100/24", or "" when it has none. cgroup: directory of the
    program's own cgroup whose freezer stops it, or "". instance: whose barrier is put before its address ("redis@a");
    "": none. track: file that says to keepalived whether this node may have the address, or ""."""

    program: str
    token: int
    pid: int
    address: str
    interface: str
    cgroup: str
    instance: str = ""
    track: str = ""


@dataclass(frozen=True, slots=True)
class Fencing:
    """The watchdog's answer: the primary under `token` was stopped.

    address_gone (with its traffic dropped), frozen: what was read back. at_ns: when all that could be done was done.
    """

    token: int
    address_gone: bool
    frozen: bool
    at_ns: int


class LeaseFile:
    """The file, mapped. One object per process; the daemon uses `put`, `clear`, `extend`, the watchdog the rest."""

    def __init__(self, path: Path) -> None:
        """Map the file at `path`, which is made if there is none. Raises ConfigError when that can't be done."""
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, FILE_BYTES)
                self._map = mmap.mmap(descriptor, FILE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}", hint="it holds the leases of this node") from None
        if self._word(0) not in (0, MAGIC):
            self._map.close()
            raise ConfigError(f"{path}: is no file of leases", hint="remove it")
        self._set_word(0, MAGIC)

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()

    # ------------------------------------------------------------ the daemon's side

    def put(self, slot: int, watched: Watched) -> None:
        """Watch a primary in this slot; its deadline stays as it is. Raises ValueError for a name that is too long."""
        texts = (watched.program, watched.address, watched.interface, watched.cgroup, watched.instance, watched.track)
        names = [text.encode() for text in texts]
        for name, most in zip(names, _NAME_BYTES, strict=True):
            if len(name) > most:
                raise ValueError(f"{name!r} has more than {most} bytes")
        at = self._at(slot)
        sequence = self._word(at + _SEQUENCE)
        # A daemon before this one may have died while it wrote: whatever the number was, it is odd during, even after.
        self._set_word(at + _SEQUENCE, sequence | 1)
        self._set_word(at + _TOKEN, watched.token)
        self._set_word(at + _PROCESS, watched.pid)
        _NAMES.pack_into(self._map, at + _NAMES_AT, *names)
        self._set_word(at + _SEQUENCE, (sequence | 1) + 1)

    def clear(self, slot: int) -> None:
        """Watch nothing in this slot any more."""
        self.put(slot, Watched("", 0, 0, "", "", ""))
        self.extend(slot, NO_LEASE_NS)

    def extend(self, slot: int, deadline_ns: int) -> None:
        """The primary in this slot may serve until then; NO_LEASE_NS: no longer."""
        self._set_word(self._at(slot) + _DEADLINE, deadline_ns)

    # ------------------------------------------------------------ the watchdog's side

    def answer(self, slot: int, fencing: Fencing | None) -> None:
        """Say that the primary of this slot was stopped; None: that it is not."""
        at = self._at(slot) + _ANSWER
        # The token last: it makes the answer valid.
        self._set_word(at, 0)
        if fencing is not None:
            self._set_word(at + 8, fencing.address_gone)
            self._set_word(at + 16, fencing.frozen)
            self._set_word(at + 24, fencing.at_ns)
            self._set_word(at, fencing.token)

    def let_go_on(self, slot: int) -> None:
        """Say that the primary of this slot, which was stopped, goes on. It is counted before the answer is taken back:
        who does not see the one sees the other."""
        at = self._at(slot) + _RETURNS
        self._set_word(at, self._word(at) + 1)
        self.answer(slot, None)

    def beat(self, now_ns: int) -> None:
        """The watchdog of this process has looked at all slots now."""
        self._set_word(_PID_AT, os.getpid())
        self._set_word(_BEAT_AT, now_ns)

    # ------------------------------------------------------------ both

    def watched(self, slot: int) -> Watched | None:
        """Who is watched in this slot. Raises BlockingIOError when it can't be read because it is being written."""
        at = self._at(slot)
        for _ in range(_READS_MAX):
            sequence = self._word(at + _SEQUENCE)
            token, pid = self._word(at + _TOKEN), self._word(at + _PROCESS)
            names = _NAMES.unpack_from(self._map, at + _NAMES_AT)
            if sequence % 2 == 0 and sequence == self._word(at + _SEQUENCE):
                program, *others = (name.rstrip(b"\0").decode() for name in names)
                address, interface, cgroup, instance, track = others
                watched = Watched(program, token, pid, address, interface, cgroup, instance, track)
                return watched if program else None
        raise BlockingIOError(f"slot {slot} is being written")

    def deadline_ns(self, slot: int) -> int:
        """Until when the primary of this slot may serve."""
        return self._word(self._at(slot) + _DEADLINE)

    def fencing(self, slot: int) -> Fencing | None:
        """The watchdog's answer about this slot."""
        at = self._at(slot) + _ANSWER
        token = self._word(at)
        if token == 0:
            return None
        return Fencing(token, bool(self._word(at + 8)), bool(self._word(at + 16)), self._word(at + 24))

    def returns(self, slot: int) -> int:
        """How often a primary of this slot was stopped and let go on."""
        return self._word(self._at(slot) + _RETURNS)

    @property
    def watchdog_pid(self) -> int:
        """The process that watches; 0 before there was one."""
        return self._word(_PID_AT)

    @property
    def beat_ns(self) -> int:
        """When the watchdog last looked."""
        return self._word(_BEAT_AT)

    def _at(self, slot: int) -> int:
        if not 0 <= slot < SLOTS:
            raise ValueError(f"there is no slot {slot}")
        return HEADER_BYTES + slot * SLOT_BYTES

    def _word(self, at: int) -> int:
        return int(_WORD.unpack_from(self._map, at)[0])

    def _set_word(self, at: int, value: int) -> None:
        _WORD.pack_into(self._map, at, value)
