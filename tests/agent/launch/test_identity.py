"""Users and groups of this node."""

from __future__ import annotations

import os

import pytest

from agent.launch.identity import environment_of, identity_of
from agent.program import ProgramSection
from transport.errors import ConfigError


def program(user: str | None = None, group: str | None = None, **environment: str) -> ProgramSection:
    """A program that runs as this user."""
    return ProgramSection(id="x", command=("/bin/true",), user=user, group=group, environment=environment)


def test_a_name_and_a_number_are_the_same_user() -> None:
    by_name, by_number = identity_of(program("nobody")), identity_of(program("65534"))
    assert by_name == by_number
    assert by_name.uid == 65534
    assert by_name.gid in by_name.groups


def test_no_user_is_the_agents_own() -> None:
    assert identity_of(program()).uid == os.geteuid()


def test_a_group_of_its_own() -> None:
    found = identity_of(program("nobody", "0"))
    assert found.gid == 0
    assert 0 in found.groups


@pytest.mark.parametrize("user", ["nobody-at-all", "4294967296", "77777777"])
def test_a_user_that_is_not_there(user: str) -> None:
    with pytest.raises(ConfigError, match=f"program.user: this node has no user '{user}'"):
        identity_of(program(user))


def test_a_group_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"program\.group: this node has no group 'none-such'"):
        identity_of(program("nobody", "none-such"))


def test_the_environment_is_the_programs_alone() -> None:
    own = program("nobody", PATH="/opt/bin", LANG="C.UTF-8")
    found = environment_of(own, identity_of(own))
    assert found["PATH"] == "/opt/bin"
    assert found["USER"] == "nobody"
    assert set(found) == {"PATH", "HOME", "USER", "LOGNAME", "LANG"}
