"""Who is heard on the wire: two machines that answer, one after the other, and again."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.kernel.namespaces import in_network_namespace
from kagemusha.demo.nodes import Directory, Machine, Machines, new_run_id
from kagemusha.demo.story import PORT
from tests.bench.takeover.stage import Witnesses

DEADLINE_S = 20.0
ECHO = f"""
import socket
server = socket.create_server(("", {PORT}))
print("listens", flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(connection.recv(100))
"""


@pytest.fixture
def machines() -> Iterator[Machines]:
    """Two nodes that echo, and a client."""
    directory = Directory(new_run_id())
    machines = Machines(directory)
    servers = []
    for node in machines.nodes.values():
        server = subprocess.Popen(node.command(sys.executable, "-c", ECHO), stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        servers.append(server)
    yield machines
    machines.close()
    for server in servers:
        server.communicate(timeout=DEADLINE_S)
    directory.close(keep=False)


def ask(machines: Machines, node: str) -> None:
    """Have this node answer once."""
    client: Machine = machines.client
    with client.network.path.open("rb") as namespace, in_network_namespace(namespace.fileno()):
        with socket.create_connection((machines.nodes[node].address, PORT), DEADLINE_S) as connection:
            connection.sendall(b"?")
            assert connection.recv(100) == b"?"


def test_who_serves_beside_another_is_found(machines: Machines) -> None:
    witnesses = Witnesses(machines.nodes, [machines.client])
    ask(machines, "b")  # Before anybody listens: not heard.
    witnesses.listen()
    for node in ("a", "a", "b"):
        ask(machines, node)
    ahead = witnesses.overlaps(("a", "b"))
    witnesses.listen()
    for node in ("a", "b", "a"):
        ask(machines, node)
    beside = witnesses.overlaps(("a", "b"))
    witnesses.close()
    assert ahead == []
    assert len(beside) == 1
    assert beside[0].startswith("a answered ")
