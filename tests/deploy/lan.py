"""The trial's network: a bridge, the machines, and a client, from which everything is deployed and watched.

kgm-PID-deploy-lan: br0 --- a  10.78.0.1, b .2, c .3, d .4     each in a namespace of its own, as eth0
                        \\-- client 10.78.0.9                    the programs' address: 10.78.0.100
"""

from __future__ import annotations

import os

from kagemusha.demo.namespace import NetworkNamespace, named_namespaces

INTERFACE = "eth0"
CLIENT_NUMBER = 9


class Lan:
    """The bridge and the client. `close` removes both, and whatever is plugged in."""

    def __init__(self) -> None:
        self.prefix = f"kgm-{os.getpid()}-deploy-"
        self._bridge = NetworkNamespace.create(f"{self.prefix}lan")
        self._bridge.ip("link add name br0 type bridge stp_state 0 mcast_snooping 0", "link set br0 up")
        self.client = self.plug_in("client", self.address(CLIENT_NUMBER))

    def address(self, number: int) -> str:
        """The address of the machine with this number."""
        return f"10.78.0.{number}"

    def plug_in(self, name: str, address: str) -> NetworkNamespace:
        """A network for a machine that is switched on: an eth0 with its address, and nothing of an earlier one."""
        network = NetworkNamespace.create(f"{self.prefix}{name}")
        port = f"to-{name}"
        network.ip(f"link add {INTERFACE} type veth peer name {port} netns {self._bridge.name}")
        self._bridge.ip(f"link set dev {port} master br0 up")
        network.ip(f"addr add {address}/24 dev {INTERFACE}", f"link set {INTERFACE} up")
        return network

    def unplug(self, network: NetworkNamespace) -> None:
        """The machine is off: nothing is left of its network."""
        # A namespace goes some moments after its last process; its plug would still be in the way.
        self._bridge.ip(f"link del dev to-{network.name.removeprefix(self.prefix)}")
        network.delete()

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` at the client."""
        return ["nsenter", f"--net={self.client.path}", "--", *argv]

    def close(self) -> None:
        """Remove it, with every process in it."""
        for namespace in named_namespaces(self.prefix):
            namespace.delete()
