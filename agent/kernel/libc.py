"""The door to the kernel: system calls by number, and the numbers.

Two doors lead to the same libc. `FREE` lets other Python threads run during the call: for whatever can block. `HELD`
keeps the interpreter lock: a call of a microsecond that gives the lock away may wait milliseconds to get it back, and
a program stands still meanwhile.
"""

from __future__ import annotations

import ctypes
from typing import ClassVar

from agent.errors import KernelError

FREE = ctypes.CDLL(None, use_errno=True)
HELD = ctypes.PyDLL(None, use_errno=True)

ERRNO_MAX = 4095


def _syscall_of(library: ctypes.CDLL) -> ctypes._NamedFuncPointer:
    function = library["syscall"]  # A new object at each look-up, so that its types are its own.
    function.restype = ctypes.c_long
    function.argtypes = [ctypes.c_long] * 7
    return function


_free_syscall = _syscall_of(FREE)
_held_syscall = _syscall_of(HELD)
get_errno = ctypes.get_errno


def attempt(number: int, *arguments: int) -> int:
    """Make system call `number` and give its result, or the negative errno. Other Python threads run meanwhile."""
    result: int = _free_syscall(number, *arguments, *(0,) * (6 - len(arguments)))
    return -get_errno() if result == -1 else result


def attempt_held(number: int, *arguments: int) -> int:
    """Like `attempt`, with the interpreter lock held: only for calls that can't block."""
    result: int = _held_syscall(number, *arguments, *(0,) * (6 - len(arguments)))
    return -get_errno() if result == -1 else result


_held_ioctl = HELD["ioctl"]
_held_ioctl.restype = ctypes.c_int
_held_ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def ioctl_held(descriptor: int, request: int, address: int) -> int:
    """ioctl(2) like `attempt_held`, in half the time: for what is asked many times at a stop."""
    result: int = _held_ioctl(descriptor, request, address)
    return -get_errno() if result == -1 else result


def check(result: int, operation: str, target: str, hint: str = "") -> int:
    """Give `result` back, or raise KernelError when it is a negative errno."""
    if -ERRNO_MAX <= result < 0:
        raise KernelError(operation, target, -result, hint=hint)
    return result


def call(number: int, *arguments: int, operation: str = "", target: str = "", hint: str = "") -> int:
    """Make system call `number` or raise KernelError; `operation` and `target` name it to a person."""
    result: int = _free_syscall(number, *arguments, *(0,) * (6 - len(arguments)))
    if result == -1:
        raise KernelError(operation or NR.name(number), target or "this process", get_errno(), hint=hint)
    return result


def signed(value: int) -> int:
    """A 64-bit register value as a signed number: what a system call returned."""
    value = int(value)
    return value - (1 << 64) if value >> 63 else value


class NR:
    """System call numbers of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl)."""

    READ, WRITE, OPEN, CLOSE, STAT, FSTAT, LSTAT, POLL, LSEEK, MMAP, MPROTECT, MUNMAP, BRK = range(13)
    RT_SIGACTION, RT_SIGPROCMASK, RT_SIGRETURN, IOCTL, PREAD64, PWRITE64, READV, WRITEV, ACCESS = range(13, 22)
    PIPE, SELECT, SCHED_YIELD, MREMAP, MSYNC, MINCORE, MADVISE, SHMGET, SHMAT, SHMCTL, DUP, DUP2 = range(22, 34)
    PAUSE, NANOSLEEP, GETITIMER, ALARM, SETITIMER, GETPID, SENDFILE, SOCKET, CONNECT, ACCEPT, SENDTO = range(34, 45)
    RECVFROM, SENDMSG, RECVMSG, SHUTDOWN, BIND, LISTEN, GETSOCKNAME, GETPEERNAME, SOCKETPAIR = range(45, 54)
    SETSOCKOPT, GETSOCKOPT, CLONE, FORK, VFORK, EXECVE, EXIT, WAIT4, KILL, UNAME, SEMGET, SEMOP = range(54, 66)
    SEMCTL, SHMDT, MSGGET, MSGSND, MSGRCV, MSGCTL, FCNTL, FLOCK, FSYNC, FDATASYNC, TRUNCATE = range(66, 77)
    FTRUNCATE, GETDENTS, GETCWD, CHDIR, FCHDIR, RENAME, MKDIR, RMDIR, CREAT, LINK, UNLINK, SYMLINK = range(77, 89)
    READLINK, CHMOD, FCHMOD, CHOWN, FCHOWN, LCHOWN, UMASK, GETTIMEOFDAY, GETRLIMIT, GETRUSAGE = range(89, 99)
    SYSINFO, TIMES, PTRACE, GETUID, SYSLOG, GETGID, SETUID, SETGID, GETEUID, GETEGID, SETPGID = range(99, 110)
    GETPPID, GETPGRP, SETSID, SETREUID, SETREGID, GETGROUPS, SETGROUPS, SETRESUID, GETRESUID = range(110, 119)
    SETRESGID, GETRESGID, GETPGID, SETFSUID, SETFSGID, GETSID, CAPGET, CAPSET, RT_SIGPENDING = range(119, 128)
    RT_SIGTIMEDWAIT, RT_SIGQUEUEINFO, RT_SIGSUSPEND, SIGALTSTACK = range(128, 132)
    PERSONALITY = 135
    GETPRIORITY, SETPRIORITY, SCHED_SETPARAM, SCHED_GETPARAM = range(140, 144)
    SCHED_SETSCHEDULER, SCHED_GETSCHEDULER = range(144, 146)
    MLOCK, MUNLOCK, MLOCKALL, MUNLOCKALL, PRCTL, ARCH_PRCTL, SETRLIMIT = 149, 150, 151, 152, 157, 158, 160
    CHROOT, SYNC, GETTID, TKILL, FUTEX, SCHED_SETAFFINITY, SCHED_GETAFFINITY = 161, 162, 186, 200, 202, 203, 204
    IO_SETUP, IO_DESTROY, IO_GETEVENTS, IO_SUBMIT, IO_CANCEL = range(206, 211)
    EPOLL_CREATE = 213
    GETDENTS64, SET_TID_ADDRESS, RESTART_SYSCALL, SEMTIMEDOP, FADVISE64, TIMER_CREATE = range(217, 223)
    TIMER_SETTIME, TIMER_GETTIME, TIMER_GETOVERRUN, TIMER_DELETE, CLOCK_SETTIME, CLOCK_GETTIME = range(223, 229)
    CLOCK_GETRES, CLOCK_NANOSLEEP, EXIT_GROUP, EPOLL_WAIT, EPOLL_CTL, TGKILL = range(229, 235)
    MBIND, SET_MEMPOLICY, GET_MEMPOLICY, MQ_OPEN, MQ_UNLINK, MQ_TIMEDSEND, MQ_TIMEDRECEIVE = range(237, 244)
    MQ_NOTIFY, MQ_GETSETATTR = range(244, 246)
    WAITID = 247
    IOPRIO_SET, IOPRIO_GET, INOTIFY_INIT, INOTIFY_ADD_WATCH, INOTIFY_RM_WATCH = range(251, 256)
    OPENAT, MKDIRAT, NEWFSTATAT, UNLINKAT, LINKAT, READLINKAT = 257, 258, 262, 263, 265, 267
    PSELECT6, PPOLL, UNSHARE, SET_ROBUST_LIST, GET_ROBUST_LIST, SPLICE, TEE = range(270, 277)
    VMSPLICE, MOVE_PAGES = 278, 279
    EPOLL_PWAIT, SIGNALFD, TIMERFD_CREATE, EVENTFD, FALLOCATE, TIMERFD_SETTIME, TIMERFD_GETTIME = range(281, 288)
    ACCEPT4, SIGNALFD4, EVENTFD2, EPOLL_CREATE1, DUP3, PIPE2, INOTIFY_INIT1, PREADV, PWRITEV = range(288, 297)
    RT_TGSIGQUEUEINFO, PERF_EVENT_OPEN, RECVMMSG, FANOTIFY_INIT, FANOTIFY_MARK, PRLIMIT64 = range(297, 303)
    NAME_TO_HANDLE_AT, OPEN_BY_HANDLE_AT, CLOCK_ADJTIME, SYNCFS, SENDMMSG, SETNS, GETCPU = range(303, 310)
    PROCESS_VM_READV, PROCESS_VM_WRITEV, KCMP, FINIT_MODULE, SCHED_SETATTR, SCHED_GETATTR = range(310, 316)
    RENAMEAT2, SECCOMP, GETRANDOM, MEMFD_CREATE, KEXEC_FILE_LOAD, BPF, EXECVEAT, USERFAULTFD = range(316, 324)
    MEMBARRIER, MLOCK2, COPY_FILE_RANGE, PREADV2, PWRITEV2, PKEY_MPROTECT = range(324, 330)
    STATX, IO_PGETEVENTS, RSEQ, PIDFD_SEND_SIGNAL, IO_URING_SETUP, IO_URING_ENTER = 332, 333, 334, 424, 425, 426
    IO_URING_REGISTER, PIDFD_OPEN, CLONE3, CLOSE_RANGE, PIDFD_GETFD, PROCESS_MADVISE = 427, 434, 435, 436, 438, 440
    EPOLL_PWAIT2, MEMFD_SECRET, FUTEX_WAITV = 441, 447, 449

    _names: ClassVar[dict[int, str]] = {}

    @classmethod
    def name(cls, number: int) -> str:
        """The call as a person knows it, "epoll_wait"; "system call 999" when it has no name here."""
        if not cls._names:
            cls._names.update({value: key.lower() for key, value in vars(cls).items() if isinstance(value, int)})
        return cls._names.get(number, f"system call {number}")
