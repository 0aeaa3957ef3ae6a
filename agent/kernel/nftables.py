"""The agent's own socket to nftables, for its barriers; see `transport.barrier`."""

from __future__ import annotations

from agent.kernel.netlink import Netlink
from transport.barrier import Barriers
from transport.nftables import NETLINK_NETFILTER


class BarrierSocket:
    """One netlink socket, opened ahead in the network namespace whose packets are meant. Not for two threads."""

    def __init__(self) -> None:
        """Raises KernelError: no nftables in this kernel."""
        self._netlink = Netlink(NETLINK_NETFILTER, "nftables")
        self.barriers = Barriers(self._netlink.answers)

    def close(self) -> None:
        """Close the socket; the barriers stay as they are."""
        self._netlink.close()
