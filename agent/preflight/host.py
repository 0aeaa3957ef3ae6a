"""Whether this node can run a program and mirror it: privileges, kernel, memory; each with the remedy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agent.kernel import procfs
from agent.preflight.distribution import KERNEL_NEEDED, kernel_version, newer_kernel_remedy, read_os_release
from agent.preflight.probe import Probe
from agent.reason import Reason

MIB = 1 << 20
AGENT_OVERHEAD_MIB = 256
"""What an agent needs beside the image: the interpreter, buffers of one checkpoint, queues to the mirrors."""

_RUN_AS_ROOT = "run it as root, with all capabilities (a container: --privileged)"
_OTHER_REMEDIES = {
    "chosen process ids": _RUN_AS_ROOT,
    "time namespaces": f"{_RUN_AS_ROOT}; the kernel needs CONFIG_TIME_NS",
    "tracing": "set kernel.yama.ptrace_scope to 2 or less (sysctl), and run it as root",
    "TCP repair": f"{_RUN_AS_ROOT}; the kernel needs CONFIG_CHECKPOINT_RESTORE",
    "socket lists": "modprobe tcp_diag udp_diag",
    "packet sockets": f"{_RUN_AS_ROOT}; modprobe af_packet",
}
_KERNEL_OPTIONS = {
    "memory access": "CONFIG_CROSS_MEMORY_ATTACH",
    "memory map fields": "CONFIG_CHECKPOINT_RESTORE",
    "vdso placement": "CONFIG_CHECKPOINT_RESTORE",
    "descriptor comparison": "CONFIG_KCMP",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. detail: what was found. reasons: why it stands in the way, if it does."""

    name: str
    detail: str
    reasons: tuple[Reason, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing stands in the way here."""
        return not self.reasons


def privilege_check(effective_uid: int) -> Check:
    """Tracing, namespaces, addresses and other users' memory take root."""
    if effective_uid == 0:
        return Check("privileges", "root")
    reason = Reason(
        "mirroring a process takes root",
        f"the user with the number {effective_uid}",
        'run it with sudo; mirror.mode = "structures" takes none',
    )
    return Check("privileges", f"user {effective_uid}", (reason,))


def kernel_checks(release: str, machine: str, os_release: dict[str, str], probes: list[Probe]) -> list[Check]:
    """The kernel's release, and every probed feature of it."""
    needed = ".".join(map(str, KERNEL_NEEDED))
    newer = newer_kernel_remedy(os_release)
    old = kernel_version(release) < KERNEL_NEEDED
    too_old = Reason(f"is older than {needed}, the first with PAGEMAP_SCAN", f"kernel {release}", newer)
    foreign = Reason("only x86_64 can be mirrored", f"this machine, {machine}", "use an x86_64 machine")
    checks = [
        Check("kernel", release, (too_old,) if old else ()),
        Check("architecture", machine, () if machine == "x86_64" else (foreign,)),
    ]
    for probe in probes:
        remedy = newer if old or probe.name == "write tracking" else _remedy(probe.name)
        reason = Reason(f"does not work: {probe.detail}", probe.name, remedy)
        checks.append(Check(probe.name, probe.detail, () if probe.works else (reason,)))
    return checks


def _remedy(name: str) -> str:
    option = _KERNEL_OPTIONS.get(name)
    return (
        f"use your distribution's own kernel; this one was built without {option}" if option else _OTHER_REMEDIES[name]
    )


def memory_check(memory_mib_max: int | None, pid: int | None, available_mib: int) -> Check:
    """Whether there is room for the image, and for the program or its shadow.

    memory_mib_max: the program's, as its file says, or None. pid: of the program, if it runs already. available_mib:
    what this node can give.
    """
    if pid is not None:
        image_mib, program_mib = resident_mib(pid), 0
        if memory_mib_max is not None:
            program_mib = max(memory_mib_max - image_mib, 0)
            image_mib = max(memory_mib_max, image_mib)
    elif memory_mib_max is not None:
        image_mib = program_mib = memory_mib_max
    else:
        return Check("memory", f"{available_mib} MiB available; mirror.memory_mib_max is not set, so not compared")
    needed_mib = program_mib + image_mib + AGENT_OVERHEAD_MIB
    parts = f"program {program_mib}, image {image_mib}, agent {AGENT_OVERHEAD_MIB}"
    detail = f"{available_mib} MiB available, {needed_mib} needed ({parts})"
    if available_mib >= needed_mib:
        return Check("memory", detail)
    remedy = (
        f"free or add {needed_mib - available_mib} MiB of memory, or lower mirror.memory_mib_max if that is too high"
    )
    return Check("memory", detail, (Reason(f"too little: {detail}", "memory of this node", remedy),))


def resident_mib(pid: int) -> int:
    """Resident and swapped memory of a process, rounded up. Raises TraceeGone."""
    fields = procfs.status_fields(pid)
    kib = sum(int(fields.get(name, "0 kB").split()[0]) for name in ("VmRSS", "VmSwap"))
    return -(-kib // 1024)


def available_memory_mib() -> int:
    """What can be allocated without swapping: the least of the machine's MemAvailable and this cgroup's room."""
    room = [_meminfo_kib("MemAvailable") * 1024]
    room += [limit - used for limit, used in _cgroup_limits()]
    return max(min(room), 0) // MIB


def _meminfo_kib(name: str) -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    return 0


def _cgroup_limits() -> list[tuple[int, int]]:
    """(limit, used) in bytes of this process's cgroups (v2 and v1) and their ancestors, as far as they are limited."""
    found = []
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = "/sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, names = "/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        directory = Path(top + path)
        while directory != Path("/sys/fs"):
            limit, used = (_number_in(directory / name) for name in names)
            if limit is not None and used is not None:
                found.append((limit, used))
            directory = directory.parent
    return found


def _number_in(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def host_checks(memory_mib_max: int | None, pid: int | None, probes: list[Probe]) -> list[Check]:
    """Everything about this node, with the outcomes of `probe_kernel`."""
    system = os.uname()
    return [
        privilege_check(os.geteuid()),
        *kernel_checks(system.release, system.machine, read_os_release(), probes),
        memory_check(memory_mib_max, pid, available_memory_mib()),
    ]
