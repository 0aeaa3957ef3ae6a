"""The memory of a traced program through /proc/PID/mem: a few bytes here and there, whatever their protection."""

from __future__ import annotations

import os

from agent.errors import KernelError
from agent.kernel import procfs


class TracedMemory:
    """file: the open /proc/PID/mem. It belongs to the memory that the program has now: after an exec, `reopen`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.file = procfs.open_file(pid, "mem", os.O_RDWR)

    def reopen(self) -> None:
        """The program has replaced itself."""
        former, self.file = self.file, procfs.open_file(self._pid, "mem", os.O_RDWR)
        os.close(former)

    def close(self) -> None:
        os.close(self.file)

    def read(self, address: int, length: int) -> bytes:
        """Raises KernelError where nothing is mapped."""
        try:
            return os.pread(self.file, length, address)
        except OSError as error:
            raise KernelError("read of memory", self._where(address), error.errno or 0) from error

    def write(self, address: int, content: bytes) -> None:
        """Raises KernelError where nothing is mapped."""
        try:
            os.pwrite(self.file, content, address)
        except OSError as error:
            raise KernelError("write of memory", self._where(address), error.errno or 0) from error

    def _where(self, address: int) -> str:
        return f"program {self._pid} at {address:#x}"
