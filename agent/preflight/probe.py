"""What this kernel can do, found out by doing it.

Version numbers lie (distributions backport, and leave out), so every feature is used once, on a process made for it.
`probe_kernel` runs this module in a process of its own: some probes change the process that makes them, and one with a
single thread is needed for namespaces.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from agent.errors import KernelError
from agent.kernel import clone, kcmp, namespaces, procfs, ptrace, sock_diag, userfaultfd, wait
from agent.kernel.libc import NR, attempt, call, check
from agent.kernel.pagemap import Pagemap
from agent.kernel.userfaultfd import Userfaultfd
from transport.errors import KagemushaError, PreflightError

_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_ARCH_MAP_VDSO_64 = 0x2003
_EEXIST = 17
_TCP_REPAIR = 19
_PAGES = 16
_DEADLINE_S = 30


@dataclass(frozen=True, slots=True)
class Probe:
    """The outcome of one probe. name: the feature. detail: what was found, or what the kernel said. value: a measure
    of what was found, where there is one."""

    name: str
    works: bool
    detail: str
    value: int = 0


def probe_kernel() -> list[Probe]:
    """Try every feature that mirroring a process needs. Raises PreflightError where the probing itself fails."""
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "agent.preflight.probe"]
    environment = {**os.environ, "PYTHONPATH": root}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_DEADLINE_S, check=True, cwd="/")
        return [Probe(**entry) for entry in json.loads(done.stdout)]
    except (subprocess.SubprocessError, ValueError, TypeError) as error:
        output = getattr(error, "stderr", None) or b""
        last = output.decode(errors="replace").strip().splitlines()[-1:] or [str(error)]
        raise PreflightError(
            f"probing the kernel failed: {last[0]}", hint="run `python -m agent.preflight.probe` by hand"
        ) from error


@contextmanager
def _written_pages() -> Iterator[tuple[int, int]]:
    """The start and end address of some pages of this process that were just written."""
    with mmap.mmap(-1, _PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        array = np.frombuffer(memory, np.uint8)
        array[:: mmap.PAGESIZE] = 1
        start = int(array.ctypes.data)
        del array
        yield start, start + _PAGES * mmap.PAGESIZE


@contextmanager
def _child() -> Iterator[int]:
    """The pid of a child that does nothing and is gone afterwards."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _write_tracking() -> str:
    """userfaultfd WP_ASYNC and PAGEMAP_SCAN together, as every checkpoint uses them."""
    descriptor = call(NR.USERFAULTFD, userfaultfd.CREATE_FLAGS, operation="userfaultfd")
    tracking = Userfaultfd(descriptor)
    pagemap = Pagemap(os.getpid())
    try:
        with _written_pages() as (start, end):
            tracking.register(start, end)
            first = pagemap.take_written(start, end, check_registered=True)
            second = pagemap.take_written(start, end, check_registered=True)
            if not len(first) or len(second):
                raise PreflightError("pages that were written are not told from pages that were not")
    finally:
        pagemap.close()
        tracking.close()
    return "userfaultfd WP_ASYNC, PAGEMAP_SCAN"


def _seize() -> tuple[str, int]:
    """ptrace: seize, stop, read; the size of a thread's extended registers in bytes."""
    with _child() as pid:
        ptrace.seize(pid, ptrace.TRACEEXIT | ptrace.EXITKILL)
        ptrace.interrupt(pid)
        wait.wait_for(pid)
        xstate = len(ptrace.get_xstate(pid))
        ptrace.get_rseq(pid)
        ptrace.signal_mask(pid)
    return f"extended registers of {xstate} bytes", xstate


def _memory() -> str:
    """process_vm_readv on another process."""
    with _written_pages() as (start, _), _child() as pid:
        local = np.zeros(1, np.uint8)
        here = np.array([local.ctypes.data, 1], np.uint64)
        there = np.array([start, 1], np.uint64)
        result = attempt(NR.PROCESS_VM_READV, pid, int(here.ctypes.data), 1, int(there.ctypes.data), 1)
        check(result, "process_vm_readv", f"process {pid}")
        if local[0] != 1:
            raise PreflightError("process_vm_readv read something else than was written")
    return "process_vm_readv"


def _chosen_ids() -> str:
    """clone3 with set_tid in a new PID namespace."""
    pid = clone.clone3(clone.CLONE_NEWPID, set_tid=(1,))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "clone3 set_tid"


def _time_namespace() -> str:
    """A time namespace whose monotonic clock is ahead."""
    pid = os.fork()
    if pid == 0:
        try:
            namespaces.unshare(namespaces.TIME)
            namespaces.set_time_offsets(namespaces.TimeOffsets(monotonic_ns=1_000_000_000))
            os._exit(0)
        except KernelError as error:
            os._exit(error.errno)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise KernelError("time namespace", "a child", max(code, 0))
    return "unshare, timens_offsets"


def _memory_map_fields() -> str:
    """PR_SET_MM_MAP, with the values that this process already has."""
    own = procfs.stat(os.getpid())
    brk = call(NR.BRK, 0, operation="brk")
    addresses = [own.field(number) for number in (26, 27, 45, 46, 47)] + [brk]
    addresses += [own.field(number) for number in (28, 48, 49, 50, 51)]
    fields = np.frombuffer(struct.pack("<11QQIi", *addresses, 0, 0, -1), np.uint8).copy()
    call(NR.PRCTL, _PR_SET_MM, _PR_SET_MM_MAP, int(fields.ctypes.data), fields.nbytes, operation="PR_SET_MM_MAP")
    return "PR_SET_MM_MAP"


def _map_vdso() -> str:
    """ARCH_MAP_VDSO_64: EEXIST, since this process has a vdso, means that it is there."""
    result = attempt(NR.ARCH_PRCTL, _ARCH_MAP_VDSO_64, 1 << 44)
    if result != -_EEXIST:
        check(result, "ARCH_MAP_VDSO_64", "this process")
    return "ARCH_MAP_VDSO_64"


def _same_description() -> str:
    """kcmp on the standard error."""
    kcmp.order_of_files(os.getpid(), 2, 2)
    return "kcmp"


def _tcp_repair() -> str:
    """Repair mode on a socket of this process."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(family, socket.SOCK_STREAM) as tcp:
            tcp.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            tcp.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 0)
    return "TCP_REPAIR"


def _socket_lists() -> str:
    """A dump of all TCP sockets."""
    diagnosis = sock_diag.SocketDiagnosis()
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            diagnosis.tcp(family)
            diagnosis.udp(family)
    finally:
        diagnosis.close()
    return "sock_diag"


def _packets() -> str:
    """A packet socket: new connections are seen, and neighbours told."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
        return "AF_PACKET"


TRACING = "tracing"

PROBES: dict[str, Callable[[], str | tuple[str, int]]] = {
    "write tracking": _write_tracking,
    TRACING: _seize,
    "memory access": _memory,
    "chosen process ids": _chosen_ids,
    "time namespaces": _time_namespace,
    "memory map fields": _memory_map_fields,
    "vdso placement": _map_vdso,
    "descriptor comparison": _same_description,
    "TCP repair": _tcp_repair,
    "socket lists": _socket_lists,
    "packet sockets": _packets,
}


def run_probes() -> list[Probe]:
    """Run all probes in this process, which should be one of its own."""
    outcomes = []
    for name, probe in PROBES.items():
        try:
            found = probe()
            outcomes.append(Probe(name, True, *((found,) if isinstance(found, str) else found)))
        except (KagemushaError, OSError) as error:
            outcomes.append(Probe(name, False, str(error)))
    return outcomes


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(outcome) for outcome in run_probes()]) + "\n")
