"""Reading the registers of stopped threads, and making the calls go on that the stop has interrupted."""

from __future__ import annotations

from collections.abc import Sequence

from agent.kernel import ptrace, registers
from agent.kernel.libc import NR
from agent.kernel.register_block import RegisterBlock
from agent.tracing.restart import RestartTable

_TO_REPAIR = frozenset(
    {
        registers.word(-registers.EINTR),
        registers.word(-registers.ERESTART_RESTARTBLOCK),
        NR.RESTART_SYSCALL,  # a restart that is prepared and not made yet
    }
)


class Repair:
    """Of one program. block: where the registers of all are read. restarts: what is known of their calls."""

    def __init__(self, block: RegisterBlock, restarts: RestartTable) -> None:
        self._block = block
        self._restarts = restarts

    def read(self, tids: Sequence[int]) -> None:
        """Read the registers of these stopped threads into the block, as they are once their calls will go on.

        Raises TraceeGone, KernelError.
        """
        self._block.read(tids)
        values = self._block.registers
        results = values[:, registers.RAX].tolist()
        for row, result in enumerate(results):
            tid = tids[row]
            if result not in _TO_REPAIR and self._restarts.blocked(tid) is None:
                continue
            if self._restarts.repair(tid, values[row]):
                ptrace.set_registers(tid, values[row])

    def one(self, tid: int) -> None:
        """Make the call of one stopped thread go on. Raises TraceeGone."""
        values = ptrace.get_registers(tid)
        if self._restarts.repair(tid, values):
            ptrace.set_registers(tid, values)
