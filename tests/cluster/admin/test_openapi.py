"""The OpenAPI document is right, complete, and what the server does."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.admin.openapi import document
from cluster.admin.problem import SORTS
from cluster.admin.routes import ENDPOINTS, problems_of
from tests.cluster.admin.fuzz import SETTINGS
from tests.cluster.admin.served import Served


def references(value: Any) -> Iterator[str]:
    """Everything that is referred to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_it_is_served_as_it_is(api: Served) -> None:
    assert (await api.ask("GET", "/openapi.json", scope=None)).json == document()


def test_what_it_refers_to_is_there() -> None:
    schemas = document()["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references(document())} <= set(schemas)


def test_the_three_names_of_the_client_are_operations() -> None:
    names = {endpoint.operation for endpoint in ENDPOINTS}
    assert {"create_mirrored_instance", "get_instance_status", "force_switchover"} <= names


def test_no_request_can_name_a_command() -> None:
    """What runs stands in files that belong to root."""
    schemas = document()["components"]["schemas"]
    for endpoint in ENDPOINTS:
        if endpoint.request is not None:
            schema = schemas[endpoint.request.__name__]
            assert schema["additionalProperties"] is False
            assert set(schema["properties"]) <= {"program_id", "config_file", "nodes", "for_s", "force", "level"}


def test_every_sort_of_problem_can_come_from_somewhere() -> None:
    known = {sort for endpoint in ENDPOINTS for sort in problems_of(endpoint)}
    assert {sort.word for sort in SORTS} - {sort.word for sort in known} == {"no-page", "no-method"}
    assert len({sort.word for sort in SORTS}) == len(SORTS)


def test_problem_words_are_words() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", sort.word) for sort in SORTS)


SCHEMATHESIS = """
import asyncio, sys
from pathlib import Path
from tests.cluster.admin.served import served

async def main():
    async with served(Path(sys.argv[1])) as api:
        print(api.url, api.tokens["admin"], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URL and a token of an API in a process of its own."""
    command = [sys.executable, "-c", SCHEMATHESIS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        watch = threading.Timer(120, process.kill)
        watch.start()
        url, token = process.stdout.readline().split()
        yield url, token
        process.stdin.close()
        process.wait()
        watch.cancel()


def test_requests_that_nobody_thought_of(server: tuple[str, str], tmp_path: Path) -> None:
    """schemathesis makes requests from the document, right ones and wrong ones, and checks every answer against it."""
    url, token = server
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(SETTINGS)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "--config-file",
            settings,
            "run",
            f"{url}/openapi.json",
            "--header",
            f"Authorization: Bearer {token}",
            "--exclude-operation-id",
            "follow_events",
            "--max-examples",
            "8",
            "--seed",
            "1",
            "--no-color",
            # A key that was used for another request is right by the schema, and refused.
            "--exclude-checks",
            "positive_data_acceptance",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
