"""/proc (proc(5)): readers for what it says of a process, as plain values.

`pid` is a host pid everywhere; a thread's own file is reached with `tid`. All readers raise TraceeGone when the
process or thread is gone.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from agent.errors import KernelError, TraceeGone

PAGE_SHIFT = 12
AT_SYSINFO_EHDR = 33

_GONE = frozenset({errno.ENOENT, errno.ESRCH})


@contextmanager
def _translating(path: str, tid: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _GONE:
            raise TraceeGone(tid) from error
        raise KernelError("read", path, error.errno or 0) from error


def path_of(pid: int, name: str, tid: int | None = None) -> str:
    """The path of file `name` of a process, or of one thread of it."""
    return f"/proc/{pid}/{name}" if tid is None else f"/proc/{pid}/task/{tid}/{name}"


def read_bytes(pid: int, name: str, tid: int | None = None) -> bytes:
    """The whole of one file."""
    path = path_of(pid, name, tid)
    with _translating(path, tid or pid), open(path, "rb", buffering=0) as file:
        return file.readall() or b""


def read_text(pid: int, name: str, tid: int | None = None) -> str:
    """The whole of one file as text; bytes that are not UTF-8 survive as surrogates (os.fsencode undoes it)."""
    return os.fsdecode(read_bytes(pid, name, tid))


def read_link(pid: int, name: str, tid: int | None = None) -> str:
    """Where a symbolic link ("exe", "cwd", "root", "fd/3") points."""
    path = path_of(pid, name, tid)
    with _translating(path, tid or pid):
        return os.readlink(path)


def open_file(pid: int, name: str, flags: int = os.O_RDONLY) -> int:
    """A close-on-exec descriptor of one file ("mem", "pagemap", "ns/net"); the caller closes it."""
    path = path_of(pid, name)
    with _translating(path, pid):
        return os.open(path, flags | os.O_CLOEXEC)


def tasks(pid: int) -> list[int]:
    """The host tids of all threads, ascending; those that are about to vanish may be among them."""
    with _translating(path_of(pid, "task"), pid):
        return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


class TaskDirectory:
    """/proc/PID/task, held open: how many threads there are, without a list of them."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._descriptor = open_file(pid, "task", os.O_RDONLY | os.O_DIRECTORY)

    def count(self) -> int:
        """The number of threads, with those that have ended and are not reaped; raises TraceeGone."""
        count = os.fstat(self._descriptor).st_nlink - 2
        if count <= 0:
            raise TraceeGone(self._pid)
        return count

    def close(self) -> None:
        os.close(self._descriptor)


def has_task(pid: int, tid: int) -> bool:
    """Whether thread `tid` still belongs to process `pid`."""
    return os.path.exists(f"/proc/{pid}/task/{tid}")


def children(pid: int) -> list[int]:
    """The host pids of all children of all threads of a process."""
    found: list[int] = []
    for tid in tasks(pid):
        try:
            found += map(int, read_bytes(pid, "children", tid).split())
        except TraceeGone:
            continue
    return sorted(found)


def descriptors(pid: int) -> list[int]:
    """The numbers of all open descriptors, ascending."""
    with _translating(path_of(pid, "fd"), pid):
        return sorted(map(int, os.listdir(f"/proc/{pid}/fd")))


def descriptor_count(pid: int) -> int:
    """How many descriptors are open (Linux 6.2: the size of /proc/PID/fd): far cheaper than listing them."""
    with _translating(path_of(pid, "fd"), pid):
        return os.stat(f"/proc/{pid}/fd").st_size


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps. Addresses and offset in bytes; device (major, minor) as "08:01"; name as printed,
    "" if none."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    name: str

    @property
    def pages(self) -> int:
        return (self.end - self.start) >> PAGE_SHIFT

    @property
    def readable(self) -> bool:
        return self.permissions[0] == "r"

    @property
    def writable(self) -> bool:
        return self.permissions[1] == "w"

    @property
    def executable(self) -> bool:
        return self.permissions[2] == "x"

    @property
    def shared(self) -> bool:
        return self.permissions[3] == "s"

    @property
    def deleted(self) -> bool:
        return self.name.endswith(" (deleted)")


class MapsFile:
    """/proc/PID/maps, held open: read as raw bytes, which are compared far faster (3 us for 1,000 mappings) than
    parsed."""

    def __init__(self, pid: int, name: str = "maps") -> None:
        self._pid = pid
        self._path = path_of(pid, name)
        self._descriptor = open_file(pid, name)
        self._buffer = bytearray(1 << 20)

    def read(self) -> bytes:
        """The whole text; the program should stand still, or two reads may see two layouts."""
        total = 0
        view = memoryview(self._buffer)
        with _translating(self._path, self._pid):
            while got := os.preadv(self._descriptor, [view[total:]], total):
                total += got
                if total == len(self._buffer):
                    view.release()
                    self._buffer.extend(bytes(total))
                    view = memoryview(self._buffer)
        text = bytes(view[:total])
        view.release()
        return text

    def close(self) -> None:
        os.close(self._descriptor)


def parse_maps(raw: bytes) -> list[Mapping]:
    """All mappings of a maps text, ascending."""
    found = []
    for line in os.fsdecode(raw).split("\n"):
        if not line:
            continue
        fields = line.split(None, 5)
        start, _, end = fields[0].partition("-")
        name = fields[5] if len(fields) > 5 else ""
        found.append(
            Mapping(int(start, 16), int(end, 16), fields[1], int(fields[2], 16), fields[3], int(fields[4]), name)
        )
    return found


def mappings(pid: int) -> list[Mapping]:
    """All mappings of a process, ascending."""
    return parse_maps(read_bytes(pid, "maps"))


_SMAPS_HEAD = re.compile(rb"^([0-9a-f]+)-[0-9a-f]+ ")


def vm_flags(pid: int) -> dict[int, frozenset[str]]:
    """The two-letter VmFlags ("gd" grows down, "dc" not copied by fork, "hg" huge pages advised ...) of each mapping,
    by its start address.

    Costs 3 us a mapping: not for the stop.
    """
    found: dict[int, frozenset[str]] = {}
    start = 0
    for line in read_bytes(pid, "smaps").split(b"\n"):
        if line.startswith(b"VmFlags:"):
            found[start] = frozenset(line[8:].decode().split())
        elif head := _SMAPS_HEAD.match(line):
            start = int(head[1], 16)
    return found


def vdso(pid: int) -> Mapping | None:
    """The mapping of the vdso."""
    return next((mapping for mapping in mappings(pid) if mapping.name == "[vdso]"), None)


@dataclass(frozen=True, slots=True)
class Status:
    """What /proc/PID/status says. Ids (real, effective, saved, filesystem). Signal sets: bit n-1 for signal n.

    namespace_pids: this task's id in each nested PID namespace, outermost first. seccomp: 0 none, 1 strict, 2 filter.
    """

    name: str
    umask: int
    state: str
    tgid: int
    pid: int
    parent: int
    tracer: int
    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    namespace_pids: tuple[int, ...]
    namespace_pgid: int
    namespace_sid: int
    threads: int
    pending: int
    shared_pending: int
    blocked: int
    ignored: int
    caught: int
    capabilities: tuple[int, int, int, int, int]
    no_new_privileges: bool
    seccomp: int
    cpus_allowed: str


def status_fields(pid: int, tid: int | None = None) -> dict[str, str]:
    """/proc/PID/status as it is: "Uid" -> "0\\t0\\t0\\t0"."""
    pairs = (line.partition(":") for line in read_text(pid, "status", tid).splitlines())
    return {key: value.strip() for key, _, value in pairs}


class _KeptFile:
    """One file of a process, held open: read at every stop, it costs a third of what opening it anew would."""

    def __init__(self, pid: int, name: str) -> None:
        self._pid = pid
        self._path = path_of(pid, name)
        self._descriptor = open_file(pid, name)

    def _read(self, size: int = 8192) -> bytes:
        with _translating(self._path, self._pid):
            pieces = [os.pread(self._descriptor, size, 0)]
            # A file in /proc gives a page at a time.
            while len(pieces[-1]):
                pieces.append(os.pread(self._descriptor, size, sum(map(len, pieces))))
        return b"".join(pieces)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class StatusFile(_KeptFile):
    """/proc/PID/status, held open."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid, "status")

    def read(self) -> Status:
        """As `status`."""
        return _status_of(self._read())


class TimersFile(_KeptFile):
    """/proc/PID/timers, held open."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid, "timers")

    def read(self) -> list[dict[str, str]]:
        """As `timers`."""
        raw = self._read()
        return _timers_of(raw) if raw else []


def status(pid: int, tid: int | None = None) -> Status:
    """/proc/PID/status, or that of one thread, as values."""
    return _status_of(read_bytes(pid, "status", tid))


def _status_of(raw: bytes) -> Status:
    # The counters of memory and context switches always differ; the rest hardly ever, and is parsed only then.
    memory, threads, counters = raw.find(b"\nVm"), raw.find(b"\nThreads:"), raw.find(b"\nMems_allowed")
    return _parse_status(raw[: memory if memory >= 0 else threads] + raw[threads:counters])


@lru_cache(maxsize=64)
def _parse_status(raw: bytes) -> Status:
    pairs = (line.partition(":") for line in os.fsdecode(raw).splitlines())
    fields = {key: value.strip() for key, _, value in pairs}

    def numbers(key: str) -> tuple[int, ...]:
        return tuple(map(int, fields.get(key, "").split()))

    def bits(key: str) -> int:
        return int(fields.get(key, "0"), 16)

    own = int(fields["Pid"])
    return Status(
        name=fields["Name"],
        umask=int(fields.get("Umask", "0"), 8),
        state=fields["State"][0],
        tgid=int(fields["Tgid"]),
        pid=own,
        parent=int(fields["PPid"]),
        tracer=int(fields["TracerPid"]),
        uids=numbers("Uid"),
        gids=numbers("Gid"),
        groups=numbers("Groups"),
        namespace_pids=numbers("NSpid") or (own,),
        namespace_pgid=(numbers("NSpgid") or (0,))[-1],
        namespace_sid=(numbers("NSsid") or (0,))[-1],
        threads=int(fields.get("Threads", "0")),
        pending=bits("SigPnd"),
        shared_pending=bits("ShdPnd"),
        blocked=bits("SigBlk"),
        ignored=bits("SigIgn"),
        caught=bits("SigCgt"),
        capabilities=(bits("CapInh"), bits("CapPrm"), bits("CapEff"), bits("CapBnd"), bits("CapAmb")),
        no_new_privileges=fields.get("NoNewPrivs", "0") == "1",
        seccomp=int(fields.get("Seccomp", "0")),
        cpus_allowed=fields.get("Cpus_allowed", ""),
    )


def namespace_tid(pid: int, tid: int) -> int:
    """The id of thread `tid` in its innermost PID namespace."""
    raw = read_bytes(pid, "status", tid)
    at = raw.find(b"\nNSpid:")
    return int(raw[at + 7 : raw.index(b"\n", at + 1)].split()[-1]) if at >= 0 else tid


@dataclass(frozen=True, slots=True)
class Stat:
    """/proc/PID/stat. `field(n)` counts as proc(5) does, from 1; fields 1-3 are pid, name and state."""

    pid: int
    name: str
    state: str
    rest: tuple[int, ...]

    def field(self, number: int) -> int:
        return self.rest[number - 4]

    @property
    def start_ticks(self) -> int:
        """When it started, in clock ticks since boot: with the pid, the identity of a process."""
        return self.field(22)


def stat(pid: int, tid: int | None = None) -> Stat:
    """/proc/PID/stat, or that of one thread. Addresses (26-29, 45-51) are 0 for a process that the agent may not
    trace."""
    head, _, tail = read_text(pid, "stat", tid).rpartition(")")
    number, _, name = head.partition(" (")
    words = tail.split()
    return Stat(int(number), name, words[0], tuple(map(int, words[1:])))


@dataclass(frozen=True, slots=True)
class Limit:
    """One resource limit; None: unlimited."""

    soft: int | None
    hard: int | None


# /proc/PID/limits's names in the order of their numbers (getrlimit(2), include/uapi/asm-generic/resource.h).
LIMIT_NAMES = (
    "Max cpu time",
    "Max file size",
    "Max data size",
    "Max stack size",
    "Max core file size",
    "Max resident set",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max file locks",
    "Max pending signals",
    "Max msgqueue size",
    "Max nice priority",
    "Max realtime priority",
    "Max realtime timeout",
)


def limits(pid: int) -> list[Limit]:
    """The 16 resource limits, indexed by their RLIMIT_ number."""
    by_name: dict[str, Limit] = {}
    for line in read_text(pid, "limits").splitlines()[1:]:
        soft, hard = line[26:].split()[:2]
        by_name[line[:26].rstrip()] = Limit(*(None if value == "unlimited" else int(value) for value in (soft, hard)))
    return [by_name[name] for name in LIMIT_NAMES]


def auxiliary_vector(pid: int) -> bytes:
    """The auxiliary vector as the kernel gave it to the program (getauxval(3)): pairs of 64-bit words."""
    return read_bytes(pid, "auxv")


def auxiliary_value(vector: bytes, key: int) -> int | None:
    """One value of an auxiliary vector."""
    for found, value in struct.iter_unpack("<QQ", vector):
        if found == key:
            return int(value)
    return None


def descriptor_information(pid: int, number: int) -> list[tuple[str, str]]:
    """/proc/PID/fdinfo/N: its lines as (key, value) in their order; epoll repeats keys, and eventfd's lines differ by
    kind (proc(5))."""
    pairs = (line.partition(":") for line in read_text(pid, f"fdinfo/{number}").splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def timers(pid: int) -> list[dict[str, str]]:
    """/proc/PID/timers: POSIX timers (timer_create(2)), each as its lines; empty when the program has none."""
    return _timers_of(read_bytes(pid, "timers"))


def _timers_of(raw: bytes) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for line in raw.decode().splitlines():
        key, _, value = line.partition(":")
        if key == "ID":
            found.append({})
        if found:
            found[-1][key.strip()] = value.strip()
    return found


def command_line(pid: int) -> list[str]:
    """The arguments of a process; a zombie has none."""
    return read_text(pid, "cmdline").split("\0")[:-1]


def namespace_inode(pid: int, kind: str) -> int:
    """The inode of a namespace ("net", "pid", "time"): equal for two processes in the same one."""
    path = path_of(pid, f"ns/{kind}")
    with _translating(path, pid):
        return os.stat(path).st_ino
