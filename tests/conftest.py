"""Each run begins by clearing away what one that was killed has left; `--part` takes one half of the tests; a test that
hangs fails and shows where, instead of taking all others with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import leftovers

PURE: Final = (
    *(
        f"cluster/admin/test_{name}.py"
        for name in ("app", "auth", "events", "forward", "history", "history_file", "idempotency", "openapi", "views")
    ),
    "cluster/health/test_verdict.py",
    "cluster/leader",
    "cluster/metrics",
    "cluster/raft",
    "cluster/registry",
    "cluster/simulation",
    "cluster/test_config.py",
    "kagemusha/client",
    "kagemusha/demo/test_display.py",
    "kagemusha/demo/test_ledger.py",
    "kagemusha/demo/test_report.py",
    "kagemusha/structures",
    "kagemusha/test_cluster_commands.py",
    "kagemusha/unit",
    "monitoring",
    "test_documents.py",
    "test_tidy.py",
    "transport",
)
"""Directories and files whose tests change nothing on the machine: they take processor time, a directory of their own
and ports of the loopback."""


SECONDS_MAX: Final = 180
"""What a test may take on a slow machine: a hundred times of what most take."""
NODES_SECONDS_MAX: Final = 600


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--part`."""
    parser.addoption("--part", choices=("pure", "machine"), help="the tests in tests.conftest.PURE, or all others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Limit the time of each, and keep the part that was asked for."""
    for item in items:
        if not any(item.get_closest_marker(name) for name in ("bench", "long", "timeout")):
            item.add_marker(pytest.mark.timeout(NODES_SECONDS_MAX if item.get_closest_marker("nodes") else SECONDS_MAX))
    part = config.getoption("--part")
    if part is None:
        return
    pure = tuple(Path(__file__).parent / name for name in PURE)
    kept: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        is_pure = any(item.path.is_relative_to(path) for path in pure)
        (kept if is_pure == (part == "pure") else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = kept


@pytest.fixture(scope="session", autouse=True)
def _cleared() -> Iterator[None]:
    """Nothing is left of a dead run; whatever this one starts can be found by the next."""
    leftovers.clear()
    cgroup = leftovers.enter_cgroup()
    yield
    if cgroup is not None:
        leftovers.leave_cgroup(cgroup)
