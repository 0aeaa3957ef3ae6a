"""What people get wrong, typed against three real nodes: one line, a hint, an exit code, and nothing is changed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagemusha.exit_codes import ExitCode
from tests.cluster.operated import Operated
from tests.cluster.trio import DEADLINE_S
from transport.pki import Authority

MISTAKES: list[tuple[str, ExitCode, str]] = [
    ("status redis@z", ExitCode.UNKNOWN, "there is no instance redis@z"),
    ("status web@a", ExitCode.UNKNOWN, "there is no instance web@a"),
    ("status redis", ExitCode.USAGE, "'redis' is no instance id: <program>@<node>"),
    ("context redis@z", ExitCode.UNKNOWN, "there is no instance redis@z"),
    ("switchover redis@z", ExitCode.UNKNOWN, "there is no instance redis@z"),
    ("start web", ExitCode.UNKNOWN, "there is no program web"),
    ("stop web", ExitCode.UNKNOWN, "there is no program web"),
    ("delete web --yes", ExitCode.UNKNOWN, "there is no program web"),
    ("start redis", ExitCode.CONFLICT, "redis@"),
    ("create redis PROGRAM", ExitCode.CONFLICT, "there is a program 'redis' already"),
    ("create redis /nowhere.toml", ExitCode.CONFIG, "node a: /nowhere.toml: does not exist"),
    ("create web PROGRAM", ExitCode.CONFIG, "PROGRAM: defines program redis, not web"),
    ("create Web PROGRAM", ExitCode.USAGE, "program_id: is no program id: 1 to 63 of a-z, 0-9 and -"),
    ("create web PROGRAM -n z", ExitCode.UNKNOWN, "there is no node z"),
    ("create web PROGRAM -n a -n a", ExitCode.USAGE, "nodes: a node is named twice"),
    ("list -o xml", ExitCode.USAGE, "Invalid value for '--output': xml is no format; table, json or yaml"),
    ("list redis", ExitCode.USAGE, "Got unexpected extra argument(s) (redis)"),
    ("lists", ExitCode.USAGE, "No such command 'lists'."),
    ("list -e nowhere", ExitCode.CONFIG, '"nowhere" is no endpoint'),
    ("list -e http://10.77.0.3:7402", ExitCode.CONFIG, "http://10.77.0.3:7402: the token would go over the network"),
    ("list -e 127.0.0.1:9", ExitCode.UNREACHABLE, "127.0.0.1:9: Connection refused"),
    ("list -e host.invalid:7402", ExitCode.UNREACHABLE, "host.invalid:7402: there is no address of that name"),
    ("list -e 10.77.0.3:7400", ExitCode.UNREACHABLE, "10.77.0.3:7400: "),
    ("list --authority /nowhere", ExitCode.CONFIG, "no authority: /nowhere: No such file or directory"),
    ("list --authority /etc/hostname", ExitCode.CONFIG, "no authority: /etc/hostname: "),
    ("list --token-file /nowhere", ExitCode.CONFIG, "no token: /nowhere: No such file or directory"),
]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_changed(cluster: Operated) -> Iterator[None]:
    """What the registry says of redis is the same before and after."""

    async def known() -> list[tuple[object, ...]]:
        wanted = ("program", "config_file", "config_digest", "paused", "guarantee")
        return [tuple(program[key] for key in wanted) for program in await cluster.found("list")]

    before = asyncio.run(known())
    yield
    assert asyncio.run(known()) == before


@pytest.mark.parametrize(("words", "code", "line"), MISTAKES, ids=[words for words, _, _ in MISTAKES])
async def test_one_line_and_a_hint(cluster: Operated, words: str, code: ExitCode, line: str) -> None:
    typed = [word.replace("PROGRAM", cluster.program) for word in words.split()]
    found = await cluster.refused(*typed)
    assert found[0] == code, found
    assert found[1].startswith(line.replace("PROGRAM", cluster.program)), found


async def test_tokens(cluster: Operated) -> None:
    for words, scope, wanted in (
        (("stop", "redis"), "viewer", "operator"),
        (("switchover", "redis@b"), "viewer", "operator"),
        (("delete", "redis", "--yes"), "operator", "admin"),
        (("create", "web", cluster.program), "operator", "admin"),
    ):
        code, line, hint = await cluster.refused(*words, KAGEMUSHA_TOKEN=cluster.tokens[scope])
        assert (code, line) == (ExitCode.DENIED, f"the token {scope} is for {scope}s; this takes {wanted}")
        assert hint == f"use a token whose scope is {wanted}"
    code, line, _ = await cluster.refused("list", KAGEMUSHA_TOKEN="kgm_nobodys")
    assert (code, line) == (ExitCode.DENIED, "this token is not known here")
    code, line, _ = await cluster.refused("list", KAGEMUSHA_TOKEN="two words")
    assert (code, line) == (ExitCode.CONFIG, "KAGEMUSHA_TOKEN: holds no token")


async def test_the_authority_of_another_cluster(cluster: Operated, tmp_path: Path) -> None:
    Authority.create("other").save(tmp_path)
    code, line, hint = await cluster.refused("list", "--authority", str(tmp_path / "authority.pem"))
    assert code == ExitCode.PEER
    assert line.startswith(f"{cluster.endpoint('c')}: its certificate is not of this cluster: ")
    assert hint == "is authority.pem the one of this cluster?"


async def test_a_node_whose_daemon_does_not_run_is_passed_over(cluster: Operated) -> None:
    found = await cluster.type("list", "-o", "json", KAGEMUSHA_ENDPOINTS=f"127.0.0.1:9,{cluster.endpoint('b')}")
    assert found[0] == 0, found


_BOTH = """
import asyncio, sys
from kagemusha.client import ApiError, AsyncClient

async def main():
    async with AsyncClient(patience_s=0) as one:
        asked = [one.force_switchover(sys.argv[1]) for _ in range(2)]
        for found in await asyncio.gather(*asked, return_exceptions=True):
            print(f"{found.status} {found.kind} {found.what}" if isinstance(found, ApiError) else "done")

asyncio.run(main())
"""


async def test_a_switchover_while_another_is_under_way(cluster: Operated) -> None:
    primary = (await cluster.mirrored())["primary"]
    endpoint = cluster.endpoint("b")
    code, out, err = await cluster.run("-c", _BOTH, f"redis@{primary}", KAGEMUSHA_ENDPOINTS=endpoint)
    assert code == 0, err
    assert sorted(out.splitlines()) == ["409 busy a takeover of redis is under way already", "done"]
    await cluster.mirrored()


async def test_a_daemon_that_hangs(cluster: Operated) -> None:
    """Neither the leader's, nor that of the primary's node: that one would be fenced."""
    found = await cluster.found("topology")
    primary = found["programs"][0]["primary"]
    name = next(one["node"] for one in found["nodes"] if not one["leader"] and one["node"] != primary)
    process = cluster.daemons[name].process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        code, line, _ = await cluster.refused("list", at=name)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert code == ExitCode.UNREACHABLE
    assert line.startswith(f"{cluster.endpoint(name)}: no answer")
    async with asyncio.timeout(DEADLINE_S):
        while not all(one["alive"] for one in (await cluster.found("topology"))["nodes"]):
            await asyncio.sleep(0.1)
    await cluster.mirrored()
