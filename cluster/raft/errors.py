"""What can go wrong with an agreement. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from transport.errors import ConfigError, KagemushaError


class RaftError(KagemushaError):
    """The group can't be asked, or has not answered."""


class NoQuorum(RaftError):
    """The command was not proposed: too few members are in reach, or none of them leads.

    missing: how many more are needed (0: enough are in reach, but no leader was found in time); absent: who is not.
    """

    def __init__(self, missing: int, members: int, absent: Iterable[str], refusals: Mapping[str, str]) -> None:
        self.missing = missing
        self.absent = tuple(sorted(absent))
        hint = "; ".join(refusals[node] for node in sorted(refusals))
        if missing == 0:
            super().__init__(f"a quorum of the {members} nodes is in reach, but none of them leads", hint=hint)
            return
        here = members - len(self.absent)
        what = f"no quorum: {here} of {members} nodes in reach, {missing} more needed; not in reach: "
        super().__init__(what + ", ".join(self.absent), hint=hint)


class UnknownOutcome(RaftError):
    """The command was proposed, but whether it has been or will be agreed is not known. It may be proposed again."""


class Overloaded(RaftError):
    """Too many proposals are under way; this one was not proposed."""


class CommandTooLong(RaftError):
    """The command is above the limit; it was not proposed."""


class ApplyFailed(RaftError):
    """The command was agreed, but the state machine raised instead of giving a result: a mistake in it."""


class DirectoryInUse(ConfigError):
    """Another daemon, or the data of another node, is in the data directory."""


class StorageError(RaftError):
    """The member's files can't be read or written; it takes no part in anything any more."""
