"""Whose rights a process acts with (credentials(7), capabilities(7)), and the rows that give them to a thread.

The kernel keeps credentials for each thread; programs keep them equal (nptl(7)), and so does a shadow.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from agent.kernel import procfs
from agent.kernel.libc import NR
from agent.mirror.batch import Batch

_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITIES: Final = 64
_WORD: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Credentials:
    """uids, gids: real, effective, saved, filesystem. The capability sets: bit n for capability n."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privileges: bool

    @classmethod
    def of(cls, status: procfs.Status) -> Credentials:
        """What /proc/PID/status says."""
        return cls(status.uids, status.gids, status.groups, *status.capabilities, status.no_new_privileges)

    def add_rows(self, batch: Batch, born: Credentials) -> None:
        """Rows that give them to the thread in which the batch runs, which has those of `born`.

        What the shadow was born without it can't be given: capabilities are limited to those of the agent.
        """
        if self == born:
            return
        for number in range(_CAPABILITIES):
            if (born.bounding & ~self.bounding) >> number & 1:
                batch.add(NR.PRCTL, _PR_CAPBSET_DROP, number, 0, 0, 0, name=f"loss of capability {number}")
        keeps = self.permitted and 0 not in self.uids[:3]
        if keeps:
            batch.add(NR.PRCTL, _PR_SET_KEEPCAPS, 1, 0, 0, 0, name="keep capabilities")
        groups = struct.pack(f"<{len(self.groups)}I", *self.groups)
        batch.add(NR.SETGROUPS, len(self.groups), groups, name="groups")
        batch.add(NR.SETRESGID, *self.gids[:3], name="group")
        batch.add(NR.SETRESUID, *self.uids[:3], name="user")
        self._add_capabilities(batch, born)
        if keeps:
            batch.add(NR.PRCTL, _PR_SET_KEEPCAPS, 0, 0, 0, 0, name="keep capabilities no more")
        if self.no_new_privileges and not born.no_new_privileges:
            batch.add(NR.PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, name="no new privileges")

    def _add_capabilities(self, batch: Batch, born: Credentials) -> None:
        permitted, effective = self.permitted & born.permitted, self.effective & born.permitted
        inheritable = self.inheritable & (born.inheritable | born.permitted)
        words = [half >> shift & _WORD for shift in (0, 32) for half in (effective, permitted, inheritable)]
        header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
        batch.add(NR.CAPSET, header, struct.pack("<6I", *words), name="capabilities")
        for number in range(_CAPABILITIES):
            if (self.ambient & permitted & inheritable) >> number & 1:
                arguments = (_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)
                batch.add(NR.PRCTL, *arguments, name=f"ambient capability {number}")
