"""The general registers of x86-64 as ptrace gives them (struct user_regs_struct, <sys/user.h>): 27 words of 64 bits."""

from __future__ import annotations

COUNT = 27
BYTES = COUNT * 8

NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip

R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI, ORIG_RAX = range(16)
RIP, CS, EFLAGS, RSP, SS, FS_BASE, GS_BASE, DS, ES, FS, GS = range(16, 27)

# Where a system call finds its six arguments (syscall(2), "Architecture calling conventions").
ARGUMENTS = (RDI, RSI, RDX, R10, R8, R9)

# Register sets of PTRACE_GETREGSET (include/uapi/linux/elf.h).
NT_PRSTATUS = 1
NT_X86_XSTATE = 0x202

# orig_rax of a thread that is in no system call: nothing is to be restarted.
NO_CALL = (1 << 64) - 1

# A function may use the 128 bytes below its stack pointer without moving it (System V ABI, AMD64, 3.2.2).
RED_ZONE_BYTES = 128

# What a signal that interrupts a call leaves in rax while the call may be restarted (include/linux/errno.h).
ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 513, 514, 516
EINTR, EFAULT, EAGAIN = 4, 14, 11


def word(value: int) -> int:
    """A signed number as the 64-bit word that a register holds."""
    return value & 0xFFFF_FFFF_FFFF_FFFF
