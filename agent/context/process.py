"""What belongs to the process as a whole: where it is, what it may, and what the kernel remembers of its memory.

Most of it hardly ever changes and is read only at a `refresh`; working directory, umask and credentials are read at
every stop.
"""

from __future__ import annotations

import os
import resource
import struct
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from agent.context import children
from agent.context.clocks import CLOCK_BOOTTIME, CLOCK_MONOTONIC, ProgramClocks
from agent.context.credentials import Credentials
from agent.context.record import pack, unpack
from agent.errors import KernelError, RestoreError
from agent.kernel import elf, procfs
from agent.kernel.libc import NR
from agent.kernel.namespaces import TimeOffsets
from agent.mirror.batch import Batch, Blob
from agent.reason import Reason
from agent.tracing.stopped import Stopped
from transport.checkpoint import Records

if TYPE_CHECKING:
    from agent.mirror.shadow import Shadow

KEY: Final = "process"
# The fields of /proc/PID/stat (proc_pid_stat(5)) that prctl(2) PR_SET_MM_MAP takes; brk is no field there.
_MEMORY_FIELDS: Final = (26, 27, 45, 46, 47, None, 28, 48, 49, 50, 51)
_START_BRK, _BRK = 4, 5
_MM_MAP_BYTES: Final = 104
_MM_MAP_AUXV: Final = 88
_NO_DESCRIPTOR: Final = 0xFFFF_FFFF
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_UNLIMITED: Final = (1 << 64) - 1
_PAGE_BYTES: Final = 4096
# Two readings of two clocks one after the other differ by less; clock discipline moves them apart slowly.
_SAME_CLOCK_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """Key "process".

    number: pid in its own PID namespace. executable, directory, root: paths. memory: the eleven addresses of struct
    prctl_mm_map (prctl(2)), the sixth being the program break at the last `refresh`. limits: 16 pairs (soft, hard), -1
    for unlimited, by RLIMIT_ number. credentials: a packed `Credentials`. dumpable: of PR_SET_DUMPABLE.
    clocks_ahead_ns: by how much the program's CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead of the wall clock.
    """

    number: int
    executable: bytes
    directory: bytes
    root: bytes
    umask: int
    personality: int
    auxiliary_vector: bytes
    memory: tuple[int, ...]
    limits: tuple[tuple[int, int], ...]
    credentials: bytes
    dumpable: int
    oom_score_adjustment: int
    clocks_ahead_ns: tuple[int, int]


def capture(stopped: Stopped, clocks: ProgramClocks, status: procfs.Status | None = None) -> Records:
    """The records of process and children; `status`: of the leader, when the caller has read it at this stop."""
    status = status or procfs.status(stopped.pid)
    before = _decoded(stopped.previous[KEY]) if KEY in stopped.previous else None
    if before is None or stopped.refresh or stopped.dying:
        return {KEY: pack(_read_all(stopped, clocks, status, before)), **children.capture(stopped)}
    directory, credentials = os.fsencode(procfs.read_link(stopped.pid, "cwd")), _credentials(status)
    if (directory, status.umask, credentials) == (before.directory, before.umask, before.credentials):
        return {KEY: stopped.previous[KEY], **children.capture(stopped)}
    record = replace(before, directory=directory, umask=status.umask, credentials=credentials)
    return {KEY: pack(record), **children.capture(stopped)}


@lru_cache(maxsize=8)
def _credentials(status: procfs.Status) -> bytes:
    return pack(Credentials.of(status))


def _read_all(
    stopped: Stopped, clocks: ProgramClocks, status: procfs.Status, before: ProcessRecord | None
) -> ProcessRecord:
    pid = stopped.pid
    stat = procfs.stat(pid)
    memory = [stat.field(number) if number is not None else 0 for number in _MEMORY_FIELDS]
    memory[_BRK] = before.memory[_BRK] if before is not None else memory[_START_BRK]
    dumpable = before.dumpable if before is not None else 1
    if not stopped.dying:
        with stopped.remote(pid) as call:
            memory[_BRK] = call(NR.BRK, 0)
            dumpable = call(NR.PRCTL, _PR_GET_DUMPABLE, 0, 0, 0, 0)
    limits = tuple(
        tuple(-1 if value is None else value for value in (limit.soft, limit.hard)) for limit in procfs.limits(pid)
    )
    return ProcessRecord(
        number=status.namespace_pids[-1],
        executable=os.fsencode(procfs.read_link(pid, "exe")),
        directory=os.fsencode(procfs.read_link(pid, "cwd")),
        root=os.fsencode(procfs.read_link(pid, "root")),
        umask=status.umask,
        personality=int(procfs.read_bytes(pid, "personality"), 16),
        auxiliary_vector=procfs.auxiliary_vector(pid),
        memory=tuple(memory),
        limits=limits,  # type: ignore[arg-type]
        credentials=_credentials(status),
        dumpable=dumpable,
        oom_score_adjustment=int(procfs.read_bytes(pid, "oom_score_adj")),
        clocks_ahead_ns=_clocks_ahead(clocks, before),
    )


def _clocks_ahead(clocks: ProgramClocks, before: ProcessRecord | None) -> tuple[int, int]:
    wall_ns = time.time_ns()
    found = clocks.now_ns(CLOCK_MONOTONIC) - wall_ns, clocks.now_ns(CLOCK_BOOTTIME) - wall_ns
    if before is not None and all(
        abs(new - old) < _SAME_CLOCK_NS for new, old in zip(found, before.clocks_ahead_ns, strict=True)
    ):
        return before.clocks_ahead_ns
    return found


def record_of(records: Records) -> ProcessRecord:
    """The process's record. Raises RestoreError."""
    if KEY not in records:
        raise RestoreError("a checkpoint without a process record")
    return _decoded(records[KEY])


@lru_cache(maxsize=8)
def _decoded(data: bytes) -> ProcessRecord:
    return unpack(ProcessRecord, data, KEY)


def shadow_clocks(records: Records) -> TimeOffsets:
    """How far a shadow's clocks must be ahead of this machine's (as this process sees them), so that they go on where
    the program's are now; as good as the wall clocks of both machines agree."""
    ahead = record_of(records).clocks_ahead_ns
    wall_ns = time.time_ns()
    return TimeOffsets(
        wall_ns + ahead[0] - time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        wall_ns + ahead[1] - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )


def prepare(shadow: Shadow, records: Records) -> None:
    """Executable link, memory fields, auxiliary vector, working directory and standing with the OOM killer.

    The layout must have been applied. Raises RestoreError when a path does not exist on this node.
    """
    record = record_of(records)
    heap_end = max((area.end for area in shadow.layout if area.kind == "heap"), default=0)
    brk = record.memory[_BRK]
    # The break was read at the last refresh; the heap's mapping is always current, but only known by pages.
    if heap_end and -(-brk // _PAGE_BYTES) * _PAGE_BYTES != heap_end:
        brk = heap_end
    memory = (*record.memory[:_BRK], brk, *record.memory[_BRK + 1 :])
    if shadow.changed("memory fields", (memory, record.auxiliary_vector, record.executable)):
        _set_memory_fields(shadow, record, memory)
    if shadow.changed("directory", record.directory):
        batch = shadow.batch()
        batch.add(NR.CHDIR, record.directory + b"\0", name=f"chdir to {os.fsdecode(record.directory)}")
        batch.run()
    if shadow.changed("standing", record.oom_score_adjustment):
        try:
            with open(f"/proc/{shadow.pid}/oom_score_adj", "w", encoding="ascii") as file:
                file.write(str(record.oom_score_adjustment))
        except OSError as error:
            raise KernelError("write of oom_score_adj", f"shadow {shadow.pid}", error.errno or 0) from error


def _set_memory_fields(shadow: Shadow, record: ProcessRecord, memory: tuple[int, ...]) -> None:
    batch = shadow.batch()
    path = record.executable
    # The kernel refuses to change the link while the file that it names is mapped (EBUSY), even to the same file.
    new_link = procfs.read_link(shadow.pid, "exe") != os.fsdecode(path)
    number = shadow.table.lowest()
    if new_link:
        flags = os.O_RDONLY | os.O_CLOEXEC
        batch.add(NR.OPEN, path + b"\0", flags, 0, name=f"open of {os.fsdecode(path)}", expect=number)
    vector = Blob(record.auxiliary_vector)
    fields = struct.pack("<12QII", *memory, 0, vector.size_bytes, number if new_link else _NO_DESCRIPTOR)
    blob = Blob(fields).point(_MM_MAP_AUXV, vector)
    batch.add(NR.PRCTL, _PR_SET_MM, _PR_SET_MM_MAP, blob, _MM_MAP_BYTES, 0, name="memory fields")
    if new_link:
        batch.add(NR.CLOSE, number, name="close of the executable")
    batch.run()


def activate(shadow: Shadow, records: Records, batch: Batch) -> None:
    """umask and resource limits: after all descriptors have been opened."""
    record = record_of(records)
    batch.extend(shadow.piece(KEY, (record.umask, record.limits), lambda batch: _add_rows(batch, record)))


def _add_rows(batch: Batch, record: ProcessRecord) -> None:
    batch.add(NR.UMASK, record.umask, name="umask")
    for number, limit in enumerate(record.limits):
        pair = struct.pack("<QQ", *(_UNLIMITED if value < 0 else value for value in limit))
        batch.add(NR.PRLIMIT64, 0, number, pair, 0, name=f"limit {procfs.LIMIT_NAMES[number][4:]}")


def finish(shadow: Shadow, records: Records, batch: Batch) -> None:
    """The last row of all, after every thread has its credentials: a change of these resets the flag (prctl(2))."""
    record = record_of(records)
    if record.dumpable != 1 or unpack(Credentials, record.credentials, KEY) != shadow.born_with:
        batch.add(NR.PRCTL, _PR_SET_DUMPABLE, 1 if record.dumpable == 1 else 0, 0, 0, 0, name="dumpable")


def reasons_against(pid: int) -> list[Reason]:
    """Why process `pid`, as a whole, can't be mirrored. Raises TraceeGone."""
    where = f"process {pid}"
    status = procfs.status(pid)
    found: list[Reason] = []
    if status.tracer:
        found.append(Reason(f"already traced by process {status.tracer}", where, "detach the debugger"))
    if status.seccomp:
        found.append(Reason("seccomp", where, "start the program without its system call filter"))
    if procfs.read_link(pid, "root") != "/":
        found.append(Reason("chroot", where, "start the program without chroot"))
    for name, what in (("exe", "its executable was deleted"), ("cwd", "its working directory was deleted")):
        if procfs.read_link(pid, name).endswith(" (deleted)"):
            found.append(Reason(what, where, "restart the program"))
    if procfs.namespace_inode(pid, "user") != procfs.namespace_inode(os.getpid(), "user"):
        found.append(Reason("a user namespace of its own", where))
    try:
        with open(f"/proc/{pid}/exe", "rb") as file:
            bits = elf.word_size(file.read(64))
    except OSError as error:
        raise KernelError("read of the executable", where, error.errno or 0) from error
    if bits != 64:
        found.append(Reason("a 32-bit program", where, "use its 64-bit version"))
    if procfs.vdso(pid) is None:
        found.append(Reason("no vdso", where, "boot without vdso=0"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = procfs.limits(pid)[resource.RLIMIT_NOFILE].hard
    if wanted is not None and hard != resource.RLIM_INFINITY and wanted > hard:
        found.append(Reason(f"more open files ({wanted}) than the agent may have ({hard})", where, "raise LimitNOFILE"))
    return found
