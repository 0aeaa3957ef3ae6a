"""Credentials are given to a thread, and what the agent does not have can't be given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.context.credentials import Credentials
from agent.kernel import procfs
from agent.mirror.shadow import Shadow

_KILL, _NET_BIND_SERVICE, _NET_RAW = 5, 10, 13


def _given(blank: Shadow, wanted: Credentials) -> Credentials:
    batch = blank.batch()
    wanted.add_rows(batch, blank.born_with)
    batch.run()
    return Credentials.of(procfs.status(blank.pid))


def test_nothing_is_done_for_what_it_was_born_with(blank: Shadow) -> None:
    batch = blank.batch()
    blank.born_with.add_rows(batch, blank.born_with)
    assert len(batch) == 0


def test_an_ordinary_user_with_groups(blank: Shadow) -> None:
    wanted = replace(
        blank.born_with, uids=(1000,) * 4, gids=(1001,) * 4, groups=(7, 8, 9), permitted=0, effective=0, inheritable=0
    )
    assert _given(blank, wanted) == wanted


@pytest.mark.parametrize("user", [0, 1000])
def test_a_few_capabilities_are_kept(user: int, blank: Shadow) -> None:
    some = 1 << _NET_BIND_SERVICE | 1 << _NET_RAW
    wanted = replace(
        blank.born_with,
        uids=(user,) * 4,
        permitted=some,
        effective=1 << _NET_RAW,
        inheritable=some,
        ambient=1 << _NET_BIND_SERVICE,
        bounding=blank.born_with.bounding & ~(1 << _KILL),
        no_new_privileges=True,
    )
    assert _given(blank, wanted) == wanted


def test_what_the_agent_does_not_have_can_not_be_given(blank: Shadow) -> None:
    missing = next(number for number in range(41) if not blank.born_with.permitted >> number & 1)
    wanted = replace(blank.born_with, permitted=blank.born_with.permitted | 1 << missing, gids=(5,) * 4)
    assert _given(blank, wanted) == replace(wanted, permitted=blank.born_with.permitted)
