"""What a process is for is seen by how it was started."""

from __future__ import annotations

import pytest

from tests.chaos.processes import Role, role_of


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ("/venv/bin/python -m kagemusha node --config /run/node.toml", "daemon"),
        ("/venv/bin/python -m kagemusha agent --config /run/program.toml --node a", "agent"),
        ("/venv/bin/python -m kagemusha watchdog /run/leases", "watchdog"),
        ("/venv/bin/python -I -S -c from_agent.launch.spawner_process_import_main /project 4", "spawner"),
        ("/usr/sbin/keepalived -n -l", "keepalived"),
        ("/usr/bin/redis-server 0.0.0.0:6379", "program"),
        ("sh -c furnish", None),
        ("", None),
    ],
)
def test_roles(line: str, role: Role | None) -> None:
    assert role_of(line.encode().split(), b"/usr/bin/redis-server") == role
