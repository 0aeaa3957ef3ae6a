"""Mounts (mount(2)) of a mount namespace that was just made."""

from __future__ import annotations

from agent.kernel.libc import FREE, check, get_errno

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_REC, MS_SLAVE = 1 << 14, 1 << 19

_mount = FREE["mount"]


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """mount(2); raises KernelError."""
    result = _mount(source.encode(), target.encode(), kind.encode(), flags, None)
    check(-get_errno() if result == -1 else 0, f"mount {kind}", target)


def receive_only() -> None:
    """Mounts made elsewhere still show up here, but none that is made here shows up elsewhere (mount_namespaces(7),
    MS_SLAVE)."""
    mount("none", "/", "none", MS_REC | MS_SLAVE)


def mount_proc() -> None:
    """Cover /proc with one of this thread's own PID namespace (pid_namespaces(7), "/proc and PID namespaces")."""
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
