"""What tests of several nodes need: a node.toml for each, certificates of one authority, free ports."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from cluster.config import Cluster, NodeConfig, NodeSettings, ThisNode, Times
from transport.pki import Authority
from transport.tls import Tls

NAMES = ("a", "b", "c")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def configs(directory: Path, names: tuple[str, ...] = NAMES, times: Times | None = None) -> dict[str, NodeConfig]:
    """A configuration for each node, all on the loopback, with certificates in `directory`/NAME/pki."""
    authority = Authority.create("test")
    ports = iter(free_ports(3 * len(names)))
    nodes = tuple(
        NodeSettings(id=name, **{key: f"127.0.0.1:{next(ports)}" for key in ("address", "raft", "admin")})
        for name in names
    )
    result = {}
    for name in names:
        own = directory / name
        authority.issue(name).save(own / "pki")
        for part in ("data", "run"):
            (own / part).mkdir()
        this = ThisNode(id=name, data=str(own / "data"), run=str(own / "run"), pki=str(own / "pki"))
        result[name] = NodeConfig(node=this, cluster=Cluster(id="test"), nodes=nodes, times=times or Times())
    return result


def tls_of(config: NodeConfig) -> Tls:
    """A node's side of its links."""
    return Tls.load(Path(config.node.pki))
