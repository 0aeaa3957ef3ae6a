"""`make fuzz-api`: requests that nobody thought of, sent to three real nodes that serve a mirrored redis.

schemathesis makes them from the OpenAPI document, right ones and wrong ones, with a token of each scope and with none,
and checks every answer against the document: no 5xx but for what it says, the right model, the right status.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.operated import DESK, Operated, operated
from tests.cluster.trio import NAMES

FUZZ_S = 1800.0


@dataclass(frozen=True, slots=True)
class Round:
    """One run of schemathesis. scope: of the token, "" for none. without, only: operations."""

    scope: str
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


# Endless; test_events.py has it.
_ENDLESS = "follow_events"
ROUNDS = (
    Round("viewer", (_ENDLESS,)),
    Round("", (_ENDLESS,)),
    Round("operator", (_ENDLESS,)),
    Round("admin", (_ENDLESS, "delete_program")),
    Round("admin", only=("delete_program", "create_mirrored_instance")),
)


SETTINGS: Final = """
[[operations]]
include-operation-id = ["get_primary", "get_replica"]
# 503 is what they are there for.
checks.not_a_server_error.enabled = false
"""
"""Of schemathesis, for this API."""


async def fuzz(cluster: Operated, at: str, one: Round, examples: int, seed: int) -> tuple[int, str]:
    """Ask node `at`; gives schemathesis' exit code, and what it says."""
    url = f"https://{cluster.endpoint(at)}"
    settings = cluster.directory.path / "schemathesis.toml"
    settings.write_text(SETTINGS)
    words = [
        "--config-file",
        str(settings),
        "run",
        f"{url}/openapi.json",
        "--tls-verify",
        "false",
        "--no-color",
        "--continue-on-failure",
    ]
    words += ["--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "100"]
    # A key that was used for another request is right by the schema, and refused; so is a program that is not there.
    words += ["--exclude-checks", "positive_data_acceptance", "--generation-database", "none"]
    words += [word for name in one.without for word in ("--exclude-operation-id", name)]
    words += [word for name in one.only for word in ("--include-operation-id", name)]
    if one.scope:
        words += ["--header", f"Authorization: Bearer {cluster.tokens[one.scope]}"]
    process = await asyncio.create_subprocess_exec(
        *cluster.machines.nodes[DESK].command(str(Path(sys.executable).with_name("schemathesis")), *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cluster.directory.path,
    )
    out, _ = await asyncio.wait_for(process.communicate(), FUZZ_S)
    return process.returncode or 0, out.decode()


async def tidy_up(cluster: Operated) -> None:
    """Whatever was asked for, redis is mirrored again."""
    if not await cluster.found("list"):
        await cluster.found("create", "redis", cluster.program)
    await cluster.type("start", "redis")
    await cluster.type("resume", "redis")
    for name in NAMES:
        await cluster.type("undrain", name)
    await cluster.mirrored()


async def _run(examples: int, seed: int) -> int:
    worst = 0
    async with operated() as cluster:
        for number, one in enumerate(ROUNDS):
            await tidy_up(cluster)
            at = NAMES[number % len(NAMES)]
            code, said = await fuzz(cluster, at, one, examples, seed)
            sys.stdout.write(f"=== {one}, at node {at}\n{said}\n")
            sys.stdout.flush()
            worst = max(worst, code)
    return worst


def main() -> None:
    """Fuzz, and exit with 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=100, help="requests for each operation and scope")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.exit(asyncio.run(_run(given.examples, given.seed)))


if __name__ == "__main__":
    main()
