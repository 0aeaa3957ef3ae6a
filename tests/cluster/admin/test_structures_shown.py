"""A program is mirrored as a whole, and its table is looked at by name, on its primary and on its shadows."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kagemusha.exit_codes import ExitCode
from tests.cluster.operated import Operated, operated
from tests.cluster.sessions import install

pytestmark = pytest.mark.nodes

DEFINITION = """\
[program]
id = "sessions"
command = ["{executable}", "{port}"]

[[structures]]
symbol = "g_sessions"
exclude = ["g_sessions.lock", "g_sessions.entries.lock"]

[[structures]]
file = "/dev/shm/orders"

[redirect]
driver = "address"
address = "{address}/32"
interface = "{interface}"
"""


def tell(connection: socket.socket, line: str) -> str:
    connection.sendall(f"{line}\n".encode())
    return connection.recv(1 << 12).decode().strip()


async def shown(cluster: Operated, instance: str) -> dict[str, Any]:
    """What the command line shows of the table of an instance."""
    return dict(await cluster.found("structures", instance, "g_sessions", "--elements", "2"))


async def test_what_is_in_a_table_is_seen_on_every_node() -> None:
    async with operated() as cluster:
        code, _, err = await cluster.type("create", "sessions", install(cluster, DEFINITION), "--no-wait")
        assert (code, err) == (0, "")
        await cluster.mirrored()
        with cluster.connect() as connection:
            assert tell(connection, "OPEN ann") == "OK 0"
            assert tell(connection, "PUT 0 vermilion") == "OK 1"
            seen = {}
            for instance in ("sessions@a", "sessions@b", "sessions@c", "sessions"):
                # What was acknowledged is in the next checkpoint.
                found = await shown(cluster, instance)
                while found["structures"][0]["content"]["entries"][0]["changes"] != 1:
                    found = await shown(cluster, instance)
                content = found["structures"][0]["content"]
                seen[found["instance"]] = found
                assert [one["state"] for one in content["entries"]] == ["OPEN", "FREE"]
                first = content["entries"][0]
                assert (first["user"], first["value"], first["lock"]) == ("ann", "vermilion", None)
                table, mistaken = found["structures"]
                assert 0 <= table["age_ms"] < 5000
                assert table["size_bytes"] > 4096 * 300
                assert mistaken["trouble"] == "/dev/shm/orders is not mapped completely by the program"
                assert (mistaken["age_ms"], mistaken["content"]) == (None, None)
        assert {one["role"] for one in seen.values()} == {"primary", "mirror"}
        _, out, _ = await cluster.type("structures", "sessions@b")
        assert "g_sessions" in out
        assert "vermilion" not in out
        viewer = cluster.tokens["viewer"]
        code, _, _ = await cluster.refused("structures", "sessions@b", KAGEMUSHA_TOKEN=viewer)
        assert code == ExitCode.DENIED
        code, line, hint = await cluster.refused("structures", "sessions@b", "g_users")
        assert (code, line) == (ExitCode.CONFLICT, "sessions@b has no structure g_users")
        assert hint == "it has g_sessions, orders"
        for node in cluster.machines.nodes.values():
            logs = [*node.own.rglob("*.log"), *cluster.directory.logs.glob("*.log")]
            assert not [log for log in logs if b"vermilion" in log.read_bytes()]
