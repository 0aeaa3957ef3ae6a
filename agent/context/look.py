"""The descriptor table of a process as /proc shows it, read again at every stop.

The table is read inside the pause, so the order of costs decides: a kept fdinfo file answers a pread(2) in 1 us (it
looks the number up anew each time), opening it costs 5 us, a readlink(2) 2 us. Sockets and pipes have inodes of their
own that say when a number means something else; everything else has its link read again (files are renamed, and all
anonymous inodes share one number).
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from agent.errors import CaptureError

O_CLOEXEC = 0o2000000
_FIRST_READ_BYTES = 4096
_WITH_OWN_INODE = ("socket:", "pipe:")


Shape = tuple[int, str, int, bool, int, int]
"""Number, link, flags, close-on-exec, mount, inode: all of a look that does not change while the program just works."""


@dataclass(frozen=True, slots=True)
class Look:
    """One descriptor number: what proc_pid_fdinfo(5) and the link say.

    link: where /proc/PID/fd/NUMBER points. flags: of open(2), without O_CLOEXEC, which is the number's own (`cloexec`).
    position: the file offset. mount: the id of the mount. inode: its inode number. details: the lines of fdinfo that
    only this kind of file has. shape: all but position and details.
    """

    number: int
    link: str
    flags: int
    cloexec: bool
    position: int
    mount: int
    inode: int
    details: bytes
    shape: Shape

    @property
    def access(self) -> int:
        """O_RDONLY, O_WRONLY or O_RDWR."""
        return self.flags & os.O_ACCMODE

    def field(self, name: str) -> str:
        """The value of the line `name:` of the details. Raises CaptureError when there is none."""
        for line in self.details.decode(errors="surrogateescape").splitlines():
            label, colon, value = line.partition(":")
            if colon and label == name:
                return value.strip()
        raise CaptureError(f"fdinfo of descriptor {self.number} ({self.link}) has no line {name}")


@dataclass(slots=True)
class _Entry:
    """What was found of one number. kept: descriptor of its fdinfo, -1: opened anew each time. settled: the raw text
    alone says whether it means something else."""

    kept: int
    raw: bytes
    look: Look
    settled: bool


class Watch:
    """Reads one process's descriptor table again and again; a `Look` that did not change stays the same object.

    Keeps one descriptor of this process for each of the program's, up to half of its own limit: what is kept is the
    file in /proc, never the program's own description. `close` gives them back.

    looks: as of the last `look`, by number, ascending. changed: the numbers whose look is another one than before it,
    with that one; None where nothing was.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.looks: dict[int, Look] = {}
        self.changed: dict[int, Look | None] = {}
        self._links = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._infos = os.open(f"/proc/{pid}/fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._entries: dict[int, _Entry] = {}
        self._kept = 0
        self._kept_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2

    def close(self) -> None:
        """Give back everything that is kept."""
        for descriptor in (*(entry.kept for entry in self._entries.values()), self._links, self._infos):
            if descriptor >= 0:
                os.close(descriptor)
        self._links = self._infos = -1
        self._entries.clear()

    def look(self) -> dict[int, Look]:
        """All open numbers, ascending. The process must stand still; it may be dying.

        Raises CaptureError when the process is gone.
        """
        changed: dict[int, Look | None] = {}
        self.changed = changed
        before = self.looks
        try:
            gone = self._look_again(changed)
            # That so many are open is cheap to ask; which ones is not (Linux 6.2: the size of the directory).
            if gone or len(self._entries) != os.fstat(self._links).st_size:
                self._meet(changed)
        except OSError as error:
            for number in tuple(self._entries):
                self._forget(number)
            self.looks = {}
            raise CaptureError(f"the descriptors of process {self.pid} can't be read: {error.strerror}") from error
        if changed:
            self.looks = {number: self._entries[number].look for number in sorted(self._entries)}
            for number in changed:
                changed[number] = before.get(number)
        return self.looks

    def reread(self, number: int) -> Look:
        """One number as it is at this very moment."""
        entry = self._entries.get(number)
        raw = self._read_info(number)[1] if entry is None or entry.kept < 0 else _read_all(entry.kept)
        if entry is not None and raw == entry.raw:
            return entry.look
        return _parse(number, self._link(number), raw)

    def _look_again(self, changed: dict[int, Look | None]) -> bool:
        """Read the known numbers; whether one of them is not open any more."""
        gone = []
        read = os.pread
        for number, entry in self._entries.items():
            try:
                raw = read(entry.kept, _FIRST_READ_BYTES, 0) if entry.kept >= 0 else self._read_info(number)[1]
                if entry.settled and raw == entry.raw:
                    continue
                if len(raw) >= _FIRST_READ_BYTES and entry.kept >= 0:
                    raw = _read_all(entry.kept)
                link = self._link(number)
            except FileNotFoundError:
                gone.append(number)
                continue
            if raw != entry.raw or link != entry.look.link:
                entry.raw, entry.look, entry.settled = raw, _parse(number, link, raw), link.startswith(_WITH_OWN_INODE)
                changed[number] = None
        for number in gone:
            self._forget(number)
            changed[number] = None
        return bool(gone)

    def _meet(self, changed: dict[int, Look | None]) -> None:
        """Read the numbers that are not known."""
        for name in os.listdir(self._links):
            number = int(name)
            if number in self._entries:
                continue
            kept, raw = self._read_info(number, keep=True)
            link = self._link(number)
            self._entries[number] = _Entry(kept, raw, _parse(number, link, raw), link.startswith(_WITH_OWN_INODE))
            changed[number] = None

    def _link(self, number: int) -> str:
        return os.readlink(str(number), dir_fd=self._links)

    def _read_info(self, number: int, *, keep: bool = False) -> tuple[int, bytes]:
        """What fdinfo says, and the descriptor of it if it is kept open, else -1."""
        descriptor = os.open(str(number), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._infos)
        if keep and self._kept < self._kept_max:
            self._kept += 1
            return descriptor, _read_all(descriptor)
        try:
            return -1, _read_all(descriptor)
        finally:
            os.close(descriptor)

    def _forget(self, number: int) -> None:
        kept = self._entries.pop(number).kept
        if kept >= 0:
            self._kept -= 1
            os.close(kept)


def _read_all(descriptor: int) -> bytes:
    size = _FIRST_READ_BYTES
    while len(raw := os.pread(descriptor, size, 0)) == size:
        size *= 8
    return raw


def _parse(number: int, link: str, raw: bytes) -> Look:
    """The four lines that every kind has come first: pos, flags (octal), mnt_id, ino."""
    try:
        position, flags, mount, inode, details = raw.split(b"\n", 4)
        word = int(flags.split()[1], 8)
        plain, cloexec = word & ~O_CLOEXEC, bool(word & O_CLOEXEC)
        at, mount_id, inode_number = int(position.split()[1]), int(mount.split()[1]), int(inode.split()[1])
        shape = (number, link, plain, cloexec, mount_id, inode_number)
        return Look(number, link, plain, cloexec, at, mount_id, inode_number, details, shape)
    except (ValueError, IndexError) as error:
        raise CaptureError(f"fdinfo of descriptor {number} ({link}) is not understood: {raw[:80]!r}") from error
