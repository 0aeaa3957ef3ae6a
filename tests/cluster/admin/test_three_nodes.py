"""Three real daemons and a redis, asked and commanded by the command line as an operator would."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

from kagemusha.exit_codes import ExitCode
from tests.cluster.operated import operated
from tests.cluster.trio import DEADLINE_S, NAMES, is_text, say


async def test_an_operators_day() -> None:
    async with operated() as cluster:
        code, _, err = await cluster.type("create", "redis", cluster.program, "--no-wait")
        assert (code, err) == (0, "")
        code, line, _ = await cluster.refused("switchover", "redis@b")
        assert code == ExitCode.CONFLICT
        assert line in ("a takeover of redis is under way already", "redis@b is starting, not mirrored")
        await cluster.mirrored()
        connection = cluster.connect()
        assert say(connection, "SET", "colour", "vermilion") == b"+OK\r\n"
        for at in NAMES:
            assert [one["program"] for one in await cluster.found("list", at=at)] == ["redis"]
            status = await cluster.found("status", "redis@a", at=at)
            assert (status["role"], status["status"], len(status["mirrors"])) == ("primary", "mirrored", 2)
            assert status["lease_age_ms"] is not None
        for instance in ("redis@a", "redis@b"):
            context = await cluster.found("context", instance)
            assert len(context["threads"]) > 1
            assert [one["state"] for one in context["connections"]].count("connected") == 1

        done = await cluster.found("switchover", "redis@b")
        assert (done["old"], done["new"], done["token"]) == ("redis@a", "redis@b", 2)
        assert done["timeline"]
        assert is_text(say(connection, "GET", "colour"), "vermilion")
        connection.close()

        code, _, err = await cluster.type("delete", "redis", "--yes")
        assert code == 0, err
        assert await cluster.found("list") == []


async def test_what_can_not_be_started() -> None:
    async with operated() as cluster:
        file = Path(cluster.program).name
        texts = {name: (node.own / file).read_text() for name, node in cluster.machines.nodes.items()}

        def write(*names: str, **replaced: str) -> None:
            for name in names:
                text = texts[name]
                for old, new in replaced.items():
                    assert old in text
                    text = text.replace(old, new)
                (cluster.machines.nodes[name].own / file).write_text(text)

        write("b", interval_ms="pages_max = 7\ninterval_ms")
        code, line, _ = await cluster.refused("create", "redis", cluster.program)
        assert (code, line) == (ExitCode.CONFLICT, f"node b: {cluster.program}: mirror.pages_max: unknown key")
        write("b", **{"interval_ms = 50": "interval_ms = 60"})
        code, line, _ = await cluster.refused("create", "redis", cluster.program)
        assert code == ExitCode.CONFLICT
        assert line == f"{cluster.program}: does not say the same on node b as on node a"
        write("b")
        other = cluster.machines.nodes["b"].own / file
        other.chmod(0o666)
        code, line, hint = await cluster.refused("create", "redis", cluster.program)
        assert code == ExitCode.CONFLICT
        assert line.startswith(f"node b: {cluster.program}: can be written by everybody")
        assert hint == f"chmod go-w {cluster.program}; it can be used on node a"
        other.unlink()
        code, line, _ = await cluster.refused("create", "redis", cluster.program)
        assert (code, line) == (ExitCode.CONFLICT, f"node b: {cluster.program}: does not exist")

        write(*NAMES, **{"/redis-server": "/no-server"})
        code, line, _ = await cluster.refused("create", "redis", cluster.program)
        assert code == ExitCode.PREFLIGHT
        assert line.startswith("node a: program.command: ")
        assert await cluster.found("list") == []

        # The same release of everything, but for one file of the program on node c.
        write(*NAMES)
        server = Path(shutil.which("redis-server") or "").resolve()
        own = cluster.machines.nodes["c"].own / "redis-server"
        own.write_bytes(server.read_bytes() + b"patched")
        own.chmod(0o755)
        seen = str(cluster.directory.node / own.name)
        subprocess.run(cluster.machines.nodes["c"].command("mount", "--bind", seen, str(server)), check=True)
        code, line, hint = await cluster.refused("create", "redis", cluster.program)
        assert code == ExitCode.PREFLIGHT
        assert line.startswith("node c could not go on with what runs on node a: /usr/bin/redis-")
        assert " differs: SHA-256 " in line
        assert line.endswith(" on node c")
        assert hint.startswith("install the same version of the package on both nodes; or leave the node out")
        subprocess.run(cluster.machines.nodes["c"].command("umount", str(server)), check=True)
        assert await cluster.found("list") == []

        write(*NAMES, **{"--save": "--no-such-option"})
        code, line, hint = await cluster.refused("create", "redis", cluster.program)
        assert code == ExitCode.LAUNCH, line
        assert line.startswith("redis did not come up: ")
        assert "kagemusha delete redis" in hint
        code, out, err = await cluster.type("delete", "redis", "--yes")
        assert (code, out) == (0, ""), err
        assert await cluster.found("list") == []


async def test_without_a_quorum_nothing_is_changed_and_it_is_said_how_many_are_missing() -> None:
    async with operated() as cluster:
        for name in ("a", "b"):
            cluster.machines.nodes[name].kill()
        async with asyncio.timeout(DEADLINE_S):
            while (refused := await cluster.type("create", "redis", cluster.program))[0] != ExitCode.NO_QUORUM:
                await asyncio.sleep(0.2)
        line, hint = refused[2].splitlines()
        assert line == "no quorum: 1 of 3 nodes in reach, 1 more needed; not in reach: a, b"
        assert hint.startswith("hint: ")
        nodes = (await cluster.found("topology"))["nodes"]
        assert [one["alive"] for one in nodes] == [False, False, True]
