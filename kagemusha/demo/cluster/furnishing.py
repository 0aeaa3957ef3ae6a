"""What the nodes of the demo have before their daemons start, and who asks them."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.admin.auth import entry_text, make_token
from kagemusha.demo.cluster.daemon import ADMIN_PORT, node_toml
from kagemusha.demo.cluster.operator import Operator
from kagemusha.demo.nodes import Machines
from kagemusha.demo.story import FIRST_NODE, PROGRAM_ID
from transport.pki import AUTHORITY_CERTIFICATE, Authority


def furnish(machines: Machines) -> str:
    """Give every node certificates of one authority, its settings, and the operator's token, which is returned."""
    authority = Authority.create("demo")
    token, digest = make_token()
    nodes = machines.nodes.values()
    for node in nodes:
        authority.issue(node.name).save(node.own_path("pki")[0])
        node.own_path("node.toml")[0].write_text(node_toml(node, nodes))
        node.own_path("tokens.toml")[0].write_text(entry_text("demo", "admin", digest))
    return token


async def arrived(machines: Machines, token: str, asked: Iterable[str], program: str = PROGRAM_ID) -> Operator:
    """An operator on the client's machine, who asks these nodes for one program. Raises DemoError."""
    nodes = machines.nodes
    operator = Operator(
        [f"{nodes[name].address}:{ADMIN_PORT}" for name in asked],
        token,
        nodes[FIRST_NODE].own_path("pki")[0] / AUTHORITY_CERTIFICATE,
        machines.directory.logs,
        program,
    )
    await operator.arrive(machines.client)
    return operator
