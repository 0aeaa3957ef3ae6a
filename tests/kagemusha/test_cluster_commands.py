"""The commands that ask the cluster, typed against an API that is served for real."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from cluster.admin.models import ProgramView, Sync
from cluster.admin.port import Busy, FilesDiffer, Unfit
from cluster.raft.errors import NoQuorum, StorageError, UnknownOutcome
from kagemusha import client
from kagemusha.command_line import run
from kagemusha.commands.cluster_access import complete_instance, complete_program
from kagemusha.commands.top import Rates
from kagemusha.exit_codes import ExitCode
from tests.cluster.admin.fake_cluster import event, instance_view, program_view
from tests.cluster.admin.served import Served, served
from transport.errors import ConfigError, ControlError, KagemushaError, PreflightError

Printed = pytest.CaptureFixture[str]


class Shell:
    """Types commands, with the environment of somebody who may do everything."""

    def __init__(self, api: Served, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api = api
        self.cluster = api.cluster
        self._printed = printed
        monkeypatch.setenv("KAGEMUSHA_ENDPOINTS", api.url)
        monkeypatch.setenv("KAGEMUSHA_TOKEN", api.tokens["admin"])
        monkeypatch.setattr(
            client.AsyncClient.__init__, "__kwdefaults__", {"token": "", "authority": "", "patience_s": 0.0}
        )

    async def type(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of one command."""
        code = await asyncio.to_thread(run, list(words))
        out, err = self._printed.readouterr()
        return code, out, "".join(line for line in err.splitlines(keepends=True) if "[info " not in line)

    async def refused(self, *words: str) -> tuple[int, str, str]:
        """Exit code, the one line, and the hint of a command that is refused."""
        code, out, err = await self.type(*words)
        assert code != ExitCode.OK
        lines = err.splitlines()
        assert len(lines) == 2, err
        assert lines[1].startswith("hint: "), err
        assert out == "" or "[info " in out
        return code, lines[0], lines[1].removeprefix("hint: ")


@pytest.fixture
async def shell(tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    async with served(tmp_path) as api:
        yield Shell(api, capsys, monkeypatch)


def squeezed(text: str) -> str:
    """Text without its layout."""
    return " ".join(text.split())


async def test_list(shell: Shell) -> None:
    code, out, err = await shell.type("list")
    assert (code, err) == (0, "")
    assert "redis redis@a primary running 1 async" in squeezed(out)
    assert "redis@b mirror mirrored" in squeezed(out)
    shell.cluster.all.clear()
    assert "there are no programs; `kagemusha create` mirrors one" in (await shell.type("list"))[1]


async def test_formats(shell: Shell) -> None:
    _, out, _ = await shell.type("list", "-o", "json")
    assert json.loads(out)[0]["program"] == "redis"
    _, out, _ = await shell.type("status", "redis@a", "--output", "yaml")
    assert yaml.safe_load(out)["lag_ms"] == 51.5
    _, out, _ = await shell.type("status", "redis@a", "--json")
    assert json.loads(out)["role"] == "primary"


async def test_status(shell: Shell) -> None:
    _, out, _ = await shell.type("status", "redis@a")
    text = squeezed(out)
    assert "role primary, running token 1 lease renewed 12 ms ago" in text
    assert "lag 1 checkpoints, 52 ms, 4.0 KiB" in text
    shell.cluster.syncing.append(Sync(done_bytes=1 << 20, total_bytes=4 << 20, bytes_per_s=1 << 20))
    _, out, _ = await shell.type("status", "redis@b")
    assert "first sync 25 % of 4.0 MiB, 1.0 MiB/s" in squeezed(out)


async def test_topology(shell: Shell) -> None:
    text = squeezed((await shell.type("topology"))[1])
    assert "node a leader heard 12 ms ago cpu 25% 3.0 GiB free" in text
    assert "node c not heard from" in text
    assert "redis@a primary running token 1" in text


async def test_context(shell: Shell) -> None:
    text = squeezed((await shell.type("context", "redis@a"))[1])
    assert "77 redis-server 0x7f0000001000 /lib/libc.so.6+0x1000 232" in text
    assert "0x55550000 /usr/bin/redis-server+0x30" in text
    assert "mappings: 1 (3 more are not shown)" in text
    assert "stack [stack]" in text
    text = squeezed((await shell.type("context", "redis@a", "--only", "handlers"))[1])
    assert "SIGTERM" in text
    assert "mappings" not in text
    _, out, _ = await shell.type("context", "redis@a", "-o", "json")
    assert json.loads(out)["connections"][0]["receive_bytes"] == 12


async def test_structures(shell: Shell) -> None:
    text = squeezed((await shell.type("structures", "redis@a"))[1])
    assert "redis@a primary" in text
    assert "g_sessions symbol g_sessions 4.0 KiB - 12 ms" in text
    assert "g_index symbol g_index - - - redis has no variable g_index" in text
    assert "ann" not in text
    text = (await shell.type("structures", "redis", "g_sessions", "--elements", "2"))[1]
    assert "g_sessions\n  entries\n    [0]\n      user = 'ann'\n    [1]\n      user = 'ann'\n" in text
    _, out, _ = await shell.type("structures", "redis", "g_sessions", "-o", "json")
    assert json.loads(out)["structures"][0]["content"]["entries"][0] == {"user": "ann"}
    code, line, _ = await shell.refused("structures", "web2")
    assert (code, line) == (ExitCode.UNKNOWN, "there is no program web2")


async def test_switchover(shell: Shell) -> None:
    text = squeezed((await shell.type("switchover", "redis@b"))[1])
    assert "redis@b serves under token 2, from checkpoint 1.77; redis@a let go hold 0.90 ms activate 4.10 ms" in text


async def test_start_stop_delete(shell: Shell) -> None:
    assert "redis@a" in (await shell.type("stop", "redis"))[1]
    assert "redis@a" in (await shell.type("start", "redis"))[1]
    code, line, _ = await shell.refused("delete", "redis")
    assert (code, line) == (ExitCode.USAGE, "Invalid value: --yes is needed to delete redis without being asked")
    code, _, err = await shell.type("delete", "redis", "--yes")
    assert (code, err) == (0, "redis was ended and is forgotten\n")
    assert shell.cluster.all == {}


async def test_top(shell: Shell) -> None:
    text = squeezed((await shell.type("top", "--once"))[1])
    assert "redis@a primary running 1.77 0.0 52 ms 4.0 KiB 12 ms 0.70 ms 0.90 ms 0 B/s 128.0 MiB 3" in text


def test_rates_are_of_what_came_between() -> None:
    rates, one = Rates(), instance_view("redis@a").model_dump()
    assert rates.of([one], 10.0) == {}
    later = {**one, "checkpoints": one["checkpoints"] + 40, "streamed_bytes": one["streamed_bytes"] + 4096}
    assert rates.of([later], 12.0) == {"redis@a": (20.0, 2048.0)}
    restarted = {**one, "checkpoints": 0, "streamed_bytes": 0}
    assert rates.of([restarted], 13.0) == {"redis@a": (0.0, 0.0)}


async def test_create_waits_until_it_is_mirrored(shell: Shell) -> None:
    for share in (1, 2):
        shell.cluster.syncing.append(Sync(done_bytes=share << 20, total_bytes=4 << 20, bytes_per_s=1 << 20))
    known = program_view("redis", "/x")
    mirrored = tuple(one.model_copy(update={"status": "mirrored"}) for one in known.instances)

    async def create(request: object, request_id: str) -> object:
        shell.cluster.asked.append(("create", request_id))
        shell.cluster.all["web"] = program_view("web", "/x").model_copy(
            update={"instances": tuple(one.model_copy(update={"instance": f"web@{one.node}"}) for one in mirrored)}
        )
        return shell.cluster.all["web"]

    shell.cluster.create = create  # type: ignore[assignment]
    code, _, err = await shell.type("create", "web", "/etc/kagemusha/web.toml", "-o", "json")
    assert code == 0, err
    assert "web runs; every mirror holds it: web@b, web@c" in err
    assert shell.cluster.syncing == []


async def test_create_on_one_node(shell: Shell) -> None:
    code, _, err = await shell.type("create", "web", "/etc/kagemusha/web.toml", "-n", "a", "-w")
    assert (code, err) == (0, "web runs; it has no mirror\n")


async def test_create_without_waiting(shell: Shell, tmp_path: Path) -> None:
    code, _, _ = await shell.type("create", "web", str(tmp_path / "web.toml"), "--no-wait", "-n", "b", "-n", "a")
    assert code == 0
    assert [one.node for one in shell.cluster.all["web"].instances] == ["b", "a"]
    assert shell.cluster.all["web"].config_file == str(tmp_path / "web.toml")


async def test_create_gives_up_in_the_end(shell: Shell) -> None:
    code, line, _ = await shell.refused("create", "web", "/x", "--timeout", "0.1")
    assert (code, line) == (ExitCode.FAILED, "not mirrored within 0.1 s: web@a")


async def test_events(shell: Shell) -> None:
    for index in (1, 2):
        shell.cluster.log.note(event(index))

    async def cut() -> None:
        while not shell.api.api._stream._streams:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await shell.api.api.close()

    cutting = asyncio.create_task(cut())
    code, out, err = await shell.type("events", "-f", "--after", "1")
    await cutting
    assert squeezed(out) == "2 2026-01-01T00:00:00Z leader-changed node a leads in term 3"
    assert code == ExitCode.UNREACHABLE
    assert "Connection refused" in err


async def test_history(shell: Shell) -> None:
    assert squeezed((await shell.type("history"))[1]) == "nothing has happened yet"
    for index in (1, 2):
        shell.cluster.log.note(event(index))
    _, out, _ = await shell.type("history", "-n", "1")
    assert squeezed(out) == "2 2026-01-01T00:00:00Z leader-changed node a leads in term 3"
    assert (await shell.type("events"))[1].count("leader-changed") == 2
    _, out, _ = await shell.type("events", "--after", "1", "-o", "json")
    assert json.loads(out)["index"] == 2
    assert json.loads((await shell.type("history", "redis", "-o", "json"))[1]) == []


async def test_maintenance(shell: Shell) -> None:
    _, out, _ = await shell.type("pause", "redis", "--for", "30m")
    assert "redis (no failover until 2026-01-01T01:00:00Z)" in squeezed(out)
    assert "no failover" not in (await shell.type("resume", "redis"))[1]
    code, _, err = await shell.type("drain", "a")
    assert (code, err.splitlines()[0]) == (0, "redis@b serves; redis@a let go")
    assert [what for what, _ in shell.cluster.asked][-2:] == ["drain", "switchover"]
    assert (await shell.type("undrain", "a"))[0] == 0
    code, _, hint = await shell.refused("failover", "redis@b")
    assert (code, hint) == (ExitCode.CONFLICT, "--force")
    code, _, err = await shell.type("failover", "redis@b", "--force")
    assert code == ExitCode.USAGE
    assert err.startswith("redis@b holds a checkpoint 52 ms old: what redis did since then will be lost\n")
    assert "redis@b serves under token 2" in (await shell.type("failover", "redis@b", "--force", "--yes"))[1]


async def test_shutdown_and_startup(shell: Shell) -> None:
    code, _, err = await shell.type("shutdown")
    assert code == ExitCode.USAGE
    assert err.startswith("what redis holds in memory will be lost but for what is saved at the end\n")
    code, _, err = await shell.type("shutdown", "--yes")
    assert (code, err.splitlines()) == (
        0,
        [
            "redis has ended",
            "every program has ended; stop the daemons now, on a, b, c",
            "when they are back: kagemusha startup",
        ],
    )
    assert "redis (kagemusha startup starts it)" in squeezed((await shell.type("list"))[1])
    assert "no program runs" in (await shell.type("shutdown", "--yes"))[2]
    assert (await shell.type("startup"))[2] == "started: redis\n"
    assert (await shell.type("startup"))[2].startswith("no program waits for a startup")


async def test_a_program_that_takes_long_to_end_is_waited_for(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer does not come, and it ends all the same."""
    real, looks = shell.cluster.shutdown, []

    async def slow(program: str, request_id: str) -> ProgramView:
        looks.append(request_id)
        await real(program, request_id)
        raise UnknownOutcome("no answer within 45 s")

    monkeypatch.setattr(shell.cluster, "shutdown", slow)
    assert (await shell.type("shutdown", "--yes"))[0] == 0
    assert looks

    async def never(program: str, request_id: str) -> ProgramView:
        raise UnknownOutcome("no answer within 45 s")

    await shell.type("startup")
    shell.cluster.all["redis"] = program_view("redis", "/x")
    monkeypatch.setattr(shell.cluster, "shutdown", never)
    code, line, _ = await shell.refused("shutdown", "--yes", "--timeout", "1")
    assert (code, line) == (ExitCode.UNKNOWN_OUTCOME, "not within 1 s: no answer within 45 s")


BAD: list[tuple[list[str], KagemushaError | None, ExitCode, str]] = [
    (["create", "redis", "/x"], None, ExitCode.CONFLICT, "there is a program redis already"),
    (
        ["create", "web", "/x"],
        FilesDiffer("/x: means something else on node b than on node a", hint="copy it"),
        ExitCode.CONFLICT,
        "/x: means something else on node b than on node a",
    ),
    (["create", "web", "/x"], ConfigError("/x: does not exist", hint="x"), ExitCode.CONFIG, "/x: does not exist"),
    (["create", "web", "/x"], PreflightError("no", hint="x"), ExitCode.PREFLIGHT, "no"),
    (["create", "Web", "/x"], None, ExitCode.USAGE, "program_id: is no program id: 1 to 63 of a-z, 0-9 and -"),
    (["status", "redis@z"], None, ExitCode.UNKNOWN, "there is no instance redis@z"),
    (["status", "redis"], None, ExitCode.USAGE, "'redis' is no instance id: <program>@<node>"),
    (["switchover", "other@a"], None, ExitCode.UNKNOWN, "there is no instance other@a"),
    (
        ["switchover", "redis@b"],
        Unfit("redis@b is failed: out of memory", hint="see its log"),
        ExitCode.CONFLICT,
        "redis@b is failed: out of memory",
    ),
    (
        ["switchover", "redis@b"],
        Unfit("redis@b holds no checkpoint yet", hint="wait"),
        ExitCode.CONFLICT,
        "redis@b holds no checkpoint yet",
    ),
    (
        ["switchover", "redis@b"],
        Busy("a switchover of redis is under way", hint="wait"),
        ExitCode.CONFLICT,
        "a switchover of redis is under way",
    ),
    (
        ["switchover", "redis@b"],
        NoQuorum(1, 3, ["b", "c"], {"b": "no link"}),
        ExitCode.NO_QUORUM,
        "no quorum: 1 of 3 nodes in reach, 1 more needed; not in reach: b, c",
    ),
    (["stop", "redis"], UnknownOutcome("no answer"), ExitCode.UNKNOWN_OUTCOME, "no answer"),
    (["stop", "redis"], StorageError("/x: No space left", hint="x"), ExitCode.FAILED, "/x: No space left"),
    (["status", "redis@a"], ControlError("no reply", hint="x"), ExitCode.CONTROL, "no reply"),
    (["pause", "none"], None, ExitCode.UNKNOWN, "there is no program none"),
    (["drain", "z"], None, ExitCode.UNKNOWN, "there is no node z"),
    (["stop", "none"], None, ExitCode.UNKNOWN, "there is no program none"),
]


@pytest.mark.parametrize(("words", "failure", "code", "line"), BAD, ids=lambda value: str(value)[:40])
async def test_bad_input(
    shell: Shell, words: list[str], failure: KagemushaError | None, code: ExitCode, line: str
) -> None:
    shell.cluster.failure = failure
    assert (await shell.refused(*words))[:2] == (code, line)
    assert list(shell.cluster.all) == ["redis"]


async def test_a_token_that_may_not(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "viewer"
    file.write_text(shell.api.tokens["viewer"])
    code, line, _ = await shell.refused("stop", "redis", "--token-file", str(file))
    assert (code, line) == (ExitCode.DENIED, "the token viewer is for viewers; this takes operator")
    file.write_text("kgm_unknown")
    code, line, _ = await shell.refused("list", "--token-file", str(file))
    assert (code, line) == (ExitCode.DENIED, "this token is not known here")
    assert (await shell.refused("list", "--token-file", "/none"))[0] == ExitCode.CONFIG


async def test_nobody_there(shell: Shell) -> None:
    assert (await shell.refused("list", "-e", "http://127.0.0.1:1"))[:2] == (
        ExitCode.UNREACHABLE,
        "127.0.0.1:1: Connection refused",
    )


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "redis@a", "--control", "/x"],
        ["status", "--control", "/x", "-w"],
        ["status", "redis@a", "-o", "xml"],
        ["context"],
        ["context", "redis@a", "--only", "stack"],
        ["token", "ops", "--scope", "root", "--file", "/x"],
        ["create", "web"],
        ["pause", "redis", "--for", "1w"],
        ["pause", "redis", "--for", "0s"],
        ["pause", "redis", "--for", "8d"],
        ["drain"],
        ["history", "-n", "0"],
    ],
)
async def test_wrong_command_lines(shell: Shell, words: list[str]) -> None:
    assert (await shell.refused(*words))[0] == ExitCode.USAGE


async def test_completion(shell: Shell) -> None:
    assert await asyncio.to_thread(complete_instance, "redis@") == ["redis@a", "redis@b", "redis@c"]
    assert await asyncio.to_thread(complete_program, "x") == []
    await shell.api.api.close()
    assert await asyncio.to_thread(complete_program, "") == []


async def test_tokens_are_made_and_let_in(shell: Shell, tmp_path: Path) -> None:
    file, mine = shell.api.file, tmp_path / "mine"
    code, out, _ = await shell.type("token", "ops", "--scope", "operator", "--file", str(file))
    assert code == 0
    assert out.strip() not in file.read_text()
    mine.write_text(out)
    assert (await shell.type("stop", "redis", "--token-file", str(mine)))[0] == 0
    code, line, _ = await shell.refused("token", "ops", "--scope", "viewer", "--file", str(file))
    assert (code, line) == (ExitCode.CONFIG, f"{file}: has a token of the name ops")
    new = tmp_path / "new.toml"
    assert (await shell.refused("token", "Ops", "--scope", "viewer", "--file", str(new)))[0] == ExitCode.CONFIG
    assert not new.exists()
    assert (await shell.type("token", "a", "--scope", "viewer", "--file", str(new)))[0] == 0
    assert new.stat().st_mode & 0o777 == 0o600
