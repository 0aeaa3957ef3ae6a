"""The section [redirect] of NAME.toml: how clients find the instance that serves. Values only.

Every field's description is the text of the generated reference (docs/program-toml.md), so it is written for operators.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from agent.command_key import whole
from transport.settings import Misfit, Section

_BELONGS: Final = {
    "address": ("address", "keepalived", "exec"),
    "interface": ("address", "keepalived", "exec"),
    "router_id": ("keepalived",),
    "listen": ("proxy",),
    "forward": ("proxy",),
    "claim": ("exec",),
    "release": ("exec",),
    "check": ("exec",),
    "timeout_ms": ("exec",),
}
"""Key -> the drivers that it means something to."""
_NEEDED: Final = {
    "address": {"address": 'address = "10.0.0.100/24", say', "interface": 'interface = "eth0", say'},
    "keepalived": {
        "address": 'address = "10.0.0.100/24", say',
        "interface": 'interface = "eth0", say',
        "router_id": "router_id = 51, say: a number that no other VRRP instance on that network has",
    },
    "proxy": {"listen": 'listen = "127.0.0.1:6379", say', "forward": 'forward = "127.0.0.1:6380", say'},
    "exec": {
        "claim": 'claim = ["/usr/local/sbin/redis-here"], say',
        "release": 'release = ["/usr/local/sbin/redis-away"], say',
    },
}
"""Driver -> the keys that it can't do without, and an example of each."""
_Command = Annotated[tuple[str, ...], Field(strict=False)]


class Redirect(Section):
    """How clients find the instance that serves."""

    driver: Literal["address", "keepalived", "proxy", "exec"] = Field(
        description="`address`: an IP address that moves with the program, by netlink and gratuitous ARP or "
        "unsolicited neighbour advertisement. `keepalived`: the same, and keepalived, which must run on every node, "
        "carries the address from then on. `proxy`: a TCP proxy of the node that serves, for several nodes on one "
        "machine. `exec`: commands of your own."
    )
    address: str = Field(
        default="",
        description="The address with its prefix length, IPv4 or IPv6: `10.0.0.100/24`. With `exec` it may be left "
        "out; where it is not, it is put onto the interface as by `address`.",
    )
    interface: Annotated[str, Field(pattern=r"^[^\s/]{1,15}$")] = Field(
        default="", description="The network interface that carries the address, by the same name on every node."
    )
    router_id: Annotated[int, Field(ge=1, le=255)] | None = Field(
        default=None,
        description="For `keepalived`: the `virtual_router_id`, which no other VRRP instance on that network may have.",
    )
    listen: str = Field(
        default="", description="For `proxy`: `HOST:PORT` where clients connect, on the node that serves."
    )
    forward: str = Field(
        default="", description="For `proxy`: `HOST:PORT` at which the program itself listens. Not `listen`."
    )
    claim: _Command = Field(
        default=(),
        description="For `exec`: the command, without a shell, that leads clients to this node. Run as root, so it "
        "must belong to root and be writable by nobody else. It is run again after it has failed. It knows "
        "`KAGEMUSHA_PROGRAM`, `KAGEMUSHA_ADDRESS`, `KAGEMUSHA_NODE`, `KAGEMUSHA_ACTION` and `KAGEMUSHA_TOKEN`, "
        "which rises with every takeover: what comes with a lower one than before is late and must be ignored.",
    )
    release: _Command = Field(
        default=(), description="For `exec`: the command that leads them away from this node. It may not be run at all."
    )
    check: _Command = Field(
        default=(),
        description="For `exec`: a command that ends with 0 while clients are led to this node. It is run once a "
        "second; when it fails, `claim` is run again. Not set: what succeeded once is so.",
    )
    timeout_ms: int = Field(
        default=1000, ge=10, le=5000, description="For `exec`: a command that takes longer has failed, and is ended."
    )

    @field_validator("address")
    @classmethod
    def _address_can_be_carried(cls, address: str) -> str:
        if "/" not in address:
            raise Misfit(f'"{address}" has no prefix length', f"{address}/24, say")
        try:
            interface = ipaddress.ip_interface(address)
        except ValueError as error:
            raise Misfit(f'"{address}" is no IPv4 or IPv6 address', "10.0.0.100/24 or fd00::100/64, say") from error
        if interface.ip.is_multicast or interface.ip.is_unspecified or interface.ip.is_loopback:
            raise Misfit(f'"{address}" can\'t move from node to node', "take a free address of the nodes' network")
        return address

    @field_validator("listen", "forward")
    @classmethod
    def _is_an_endpoint(cls, text: str) -> str:
        host, _, port = text.rpartition(":")
        try:
            ipaddress.ip_address(host.strip("[]"))
            if not port.isascii() or not 0 < int(port) < 65536:
                raise ValueError
        except ValueError as error:
            raise Misfit(f'"{text}" is not an address and a port', "127.0.0.1:6379, or [::1]:6379 for IPv6") from error
        return text

    @field_validator("claim", "release", "check")
    @classmethod
    def _is_a_command(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        return whole(command)

    @model_validator(mode="after")
    def _has_the_keys_of_its_driver(self) -> Self:
        for key, example in _NEEDED[self.driver].items():
            if key not in self.model_fields_set:
                raise Misfit(f'driver = "{self.driver}" needs {key}', example)
        for key in sorted(self.model_fields_set & _BELONGS.keys()):
            if self.driver not in _BELONGS[key]:
                homes = " or ".join(f'"{home}"' for home in _BELONGS[key])
                raise Misfit(f'{key} means nothing to driver = "{self.driver}"', f"leave it out; it is for {homes}")
        if bool(self.address) != bool(self.interface):
            raise Misfit("address and interface belong together", "give both, or neither")
        if self.listen and self.listen == self.forward:
            raise Misfit("listen and forward are the same", "the program needs a port of its own")
        return self

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address alone. Raises ValueError where there is none."""
        return ipaddress.ip_interface(self.address).ip

    @property
    def prefix(self) -> int:
        """The prefix length in bits."""
        return ipaddress.ip_interface(self.address).network.prefixlen
