"""What a program's file says of how clients find it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Literal

DriverName = Literal["none", "address", "keepalived", "proxy", "exec"]


@dataclass(frozen=True, slots=True)
class Redirection:
    """The section [redirect] of a NAME.toml; what is not for its driver is empty.

    address: "10.0.0.100/24", on `interface`. router_id: of VRRP, 1 to 255. listen, forward: endpoints as `HOST:PORT`.
    claim, release, check: commands. timeout_s: of one of them.
    """

    driver: DriverName = "none"
    address: str = ""
    interface: str = ""
    router_id: int = 0
    listen: str = ""
    forward: str = ""
    claim: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    timeout_s: float = 1.0

    def exclusive(self) -> tuple[str, ...]:
        """What only one program of the cluster may have, in words."""
        found = []
        if self.address:
            found.append(f"the address {ip_interface(self.address).ip}")
        if self.router_id:
            found.append(f"router_id {self.router_id} on {self.interface}")
        if self.listen:
            found.append(f"the endpoint {self.listen}")
        return tuple(found)
