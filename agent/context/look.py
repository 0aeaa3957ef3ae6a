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


class Watch:
    """Reads one process's descriptor table again and again; a `Look` that did not change stays the same object.

    Keeps one descriptor of this process for each of the program's, up to half of its own limit: what is kept is the
    file in /proc, never the program's own description. `close` gives them back.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._links = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._infos = os.open(f"/proc/{pid}/fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._kept: dict[str, int] = {}
        self._kept_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._raw: dict[str, bytes] = {}
        self._looks: dict[str, Look] = {}

    def close(self) -> None:
        """Give back everything that is kept."""
        for descriptor in (*self._kept.values(), self._links, self._infos):
            os.close(descriptor)
        self._kept.clear()

    def look(self) -> list[Look]:
        """All open numbers, ascending. The process must stand still; it may be dying.

        Raises CaptureError when the process is gone.
        """
        try:
            names = os.listdir(self._links)
            looks = [self._look_at(name) for name in names]
        except OSError as error:
            raise CaptureError(f"the descriptors of process {self.pid} can't be read: {error.strerror}") from error
        if len(self._looks) > len(looks):
            self._forget(set(self._looks).difference(names))
        looks.sort(key=lambda look: look.number)
        return looks

    def reread(self, number: int) -> Look:
        """One number as it is at this very moment."""
        return self._look_at(str(number))

    def _look_at(self, name: str) -> Look:
        kept = self._kept.get(name)
        raw = os.pread(kept, _FIRST_READ_BYTES, 0) if kept is not None else self._read_info(name)
        if len(raw) >= _FIRST_READ_BYTES and kept is not None:
            raw = _read_all(kept)
        before = self._looks.get(name)
        same = before is not None and raw == self._raw[name]
        if same and before is not None and before.link.startswith(_WITH_OWN_INODE):
            return before
        link = os.readlink(name, dir_fd=self._links)
        if same and before is not None and before.link == link:
            return before
        self._raw[name] = raw
        look = self._looks[name] = _parse(int(name), link, raw)
        return look

    def _read_info(self, name: str) -> bytes:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._infos)
        if len(self._kept) < self._kept_max:
            self._kept[name] = descriptor
            return _read_all(descriptor)
        try:
            return _read_all(descriptor)
        finally:
            os.close(descriptor)

    def _forget(self, names: set[str]) -> None:
        for name in names:
            del self._looks[name], self._raw[name]
            if name in self._kept:
                os.close(self._kept.pop(name))


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
