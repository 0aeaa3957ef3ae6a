"""What the tests of the API share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cluster.admin.served import Served, served
from tests.cluster.operated import Operated, operated


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as one:
        yield one


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Operated]:
    """Three real nodes and a redis, which runs on a and is mirrored on b and c. Its tests leave it mirrored."""
    with asyncio.Runner() as runner:
        context = operated()
        one = runner.run(context.__aenter__())
        failure: BaseException | None = AssertionError("it did not start")
        try:
            created = runner.run(one.found("create", "redis", one.program))
            assert {entry["status"] for entry in created["instances"]} == {"mirrored"}
            yield one
            failure = AssertionError("the logs stay") if request.session.testsfailed else None
        finally:
            try:
                runner.run(context.__aexit__(None if failure is None else type(failure), failure, None))
            except AssertionError as error:
                if error is not failure:
                    raise
