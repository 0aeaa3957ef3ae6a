"""Who a program runs as on this node: names of `program.user` and `program.group` resolved to numbers."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from agent.program import ProgramSection
from transport.errors import ConfigError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Identity:
    """User, group and supplementary groups as the kernel knows them; name and home for the environment."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


def identity_of(program: ProgramSection) -> Identity:
    """Resolve the user and the group of `program` on this node.

    Raises ConfigError where this node has no such user or group.
    """
    account = _account(program.user)
    gid = account.pw_gid if program.group is None else _group(program.group)
    groups = tuple(sorted({gid, *os.getgrouplist(account.pw_name, gid)}))
    return Identity(account.pw_uid, gid, groups, account.pw_name, account.pw_dir)


def environment_of(program: ProgramSection, identity: Identity) -> dict[str, str]:
    """All environment variables of the program; nothing of the agent's own gets in."""
    usual = {"PATH": SEARCH_PATH, "HOME": identity.home, "USER": identity.name, "LOGNAME": identity.name}
    return {**usual, **program.environment}


def _account(user: str | None) -> pwd.struct_passwd:
    try:
        if user is None:
            return pwd.getpwuid(os.geteuid())
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError) as error:
        name = f"user {user!r}" if user is not None else f"user with the number {os.geteuid()}"
        raise ConfigError(
            f"program.user: this node has no {name}", hint="create the user with the same number on every node"
        ) from error


def _group(group: str) -> int:
    try:
        entry = grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)
    except (KeyError, OverflowError) as error:
        raise ConfigError(
            f"program.group: this node has no group {group!r}",
            hint="create the group with the same number on every node",
        ) from error
    return entry.gr_gid
