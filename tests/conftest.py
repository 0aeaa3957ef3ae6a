"""Each run begins by clearing away what one that was killed has left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import leftovers


@pytest.fixture(scope="session", autouse=True)
def _cleared() -> Iterator[None]:
    """Nothing is left of a dead run; whatever this one starts can be found by the next."""
    leftovers.clear()
    cgroup = leftovers.enter_cgroup()
    yield
    if cgroup is not None:
        leftovers.leave_cgroup(cgroup)
