"""The short form of `make fuzz-api`."""

from __future__ import annotations

import pytest

from tests.cluster.admin.fuzz import ROUNDS, Round, fuzz, tidy_up
from tests.cluster.operated import Operated

pytestmark = pytest.mark.nodes


@pytest.mark.parametrize("one", ROUNDS[:3], ids=[one.scope or "nobody" for one in ROUNDS[:3]])
async def test_requests_that_nobody_thought_of(cluster: Operated, one: Round) -> None:
    """Right and wrong ones, made from the document; what comes back is as it says."""
    code, said = await fuzz(cluster, "b", one, 1, 1)
    await tidy_up(cluster)
    assert code == 0, said[-8000:]
