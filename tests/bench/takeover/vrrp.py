"""keepalived alone, as a peer: VRRP moves an address between two redis servers that know nothing of each other.

Its script is run once a second, which is the most that keepalived 2.2.7 takes, and believed at once; all else is as
fast as kagemusha has it: three missing advertisements of 100 ms are a dead node.
"""

from __future__ import annotations

from typing import Final

from kagemusha.demo.display import Display
from kagemusha.demo.nodes import ADDRESS, INTERFACE, Machines, Node
from kagemusha.demo.story import PORT
from tests.bench.takeover.peer import Peer, PeerKind, redis_says
from tests.bench.takeover.stage import Load
from tests.cluster.redirect.on_nodes import ROUTER_ID, KeepalivedOnNodes

_INSTANCE: Final = "redis"


class KeepalivedAlone(Peer):
    """Two nodes; the third has nothing."""

    name = "keepalived alone"
    address_moves = True

    def __init__(self, display: Display, machines: Machines, load: Load) -> None:
        super().__init__(display, machines, load)
        self._nodes = dict(list(machines.nodes.items())[:2])
        self._keepalived = KeepalivedOnNodes(self._nodes)

    async def start(self) -> None:
        """See `Peer`."""
        for name, node in self._nodes.items():
            (peer,) = (other for other in self._nodes.values() if other is not node)
            self._keepalived.furnish(name, _config(node, peer))
            await self.start_node(name, "node_killed")

    async def start_node(self, name: str, kind: PeerKind) -> None:
        """See `Peer`."""
        await self.start_redis(name)
        await self.until(lambda: self._answers(name), f"redis of node {name} does not come up")
        if kind == "node_killed":
            self._keepalived.start(name)

    async def primary(self) -> str:
        """See `Peer`."""
        masters = [name for name in self._nodes if self._state(name) == "MASTER"]
        # One that was killed has said nothing more; the other is the newer one then.
        return next((name for name in masters if self.redis[name].returncode is None), "")

    async def is_whole(self) -> bool:
        """See `Peer`."""
        return sorted(self._state(name) for name in self._nodes) == ["BACKUP", "MASTER"]

    async def tell_clients(self) -> None:
        """See `Peer`. They find the address wherever it is."""

    def address(self, primary: str) -> str:
        """See `Peer`."""
        return ADDRESS

    async def close(self) -> None:
        """See `Peer`."""
        await super().close()
        self._keepalived.close()

    def _state(self, name: str) -> str:
        return next(reversed(self._keepalived.states(name, _INSTANCE)), "")

    async def _answers(self, name: str) -> bool:
        return "PONG" in await redis_says(self._nodes[name], "127.0.0.1", PORT, "PING")


def _config(own: Node, peer: Node) -> str:
    """keepalived.conf(5). Who failed does not take the address back when it is there again."""
    return f"""\
global_defs {{
    router_id {own.name}
    script_user root
    enable_script_security
}}
vrrp_script answers {{
    script "/usr/bin/redis-cli -p {PORT} PING"
    interval 1
    timeout 1
    fall 1
    rise 1
}}
vrrp_instance {_INSTANCE} {{
    version 3
    state BACKUP
    nopreempt
    interface {INTERFACE}
    virtual_router_id {ROUTER_ID}
    priority 254
    advert_int 0.1
    unicast_src_ip {own.address}
    unicast_peer {{
        {peer.address}
    }}
    track_script {{
        answers
    }}
    virtual_ipaddress {{
        {ADDRESS}/32 dev {INTERFACE}
    }}
}}
"""
