"""What tests of the harm to one node have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kagemusha.demo.nodes import Directory, Node, new_run_id
from tests.leftovers import DEMO_RUNS


@pytest.fixture
def node() -> Iterator[Node]:
    """A node that is on no bridge."""
    directory = Directory(new_run_id(), DEMO_RUNS)
    node = Node(directory, "a", 1)
    yield node
    node.close()
    directory.close(keep=False)
