"""keepalived.conf(5), as far as it is written and read here: our own instance as text, others' as values. Pure.

What is written rests on what keepalived 2.2.7 was seen to do: with `weight 0 reverse` and no `init_file`, a track file
that is missing, empty, rubbish or 0 means FAULT (no address), and any other number that it may have it. With the
default weight a missing file would mean that, too. `nopreempt` and equal priorities: nobody takes it for being better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import PurePath
from typing import Final

from cluster.redirect.redirection import Redirection

_PRIORITY: Final = 254
_REFRESH_S: Final = 5
_NAME: Final = "kagemusha-{program}"
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]|[^\s{}"]+')


@dataclass(frozen=True, slots=True)
class VrrpInstance:
    """One that keepalived has. addresses: without their prefixes, as text."""

    name: str
    interface: str
    router_id: int
    addresses: frozenset[str]


def name_of(program: str) -> str:
    """What the program's VRRP instance is called."""
    return _NAME.format(program=program)


def instance_text(program: str, said: Redirection, track: PurePath, own: str, peers: tuple[str, ...]) -> str:
    """The program's own file. own, peers: addresses of this node and the others, without ports."""
    name, version = name_of(program), ip_interface(said.address).version
    lines = [
        f"# Written by kagemusha for the program {program}; changes are lost.",
        f"track_file {name} {{",
        f'    file "{track}"',
        "    weight 0 reverse",
        "}",
        f"vrrp_instance {name} {{",
        "    version 3",
        "    state BACKUP",
        "    nopreempt",
        f"    interface {said.interface}",
        f"    virtual_router_id {said.router_id}",
        f"    priority {_PRIORITY}",
        "    advert_int 0.1",
        f"    garp_master_refresh {_REFRESH_S}",
    ]
    if all(ip_address(one).version == version for one in (own, *peers)):
        # Otherwise keepalived refuses: the instance is of the address's own kind, and speaks to a multicast group.
        lines += [f"    unicast_src_ip {own}", "    unicast_peer {", *(f"        {peer}" for peer in peers), "    }"]
    lines += [
        "    track_file {",
        f"        {name}",
        "    }",
        "    virtual_ipaddress {",
        f"        {said.address} dev {said.interface}",
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def includes(text: str) -> list[str]:
    """The patterns of the files that a configuration includes, as they stand there."""
    found = []
    for line in text.splitlines():
        words = _without_comment(line).split()
        if len(words) == 2 and words[0] in ("include", "includer", "includem", "includew", "includeb", "includea"):
            found.append(words[1].strip('"'))
    return found


def vrrp_instances(text: str) -> list[VrrpInstance]:
    """Every vrrp_instance in a configuration. What can't be understood is left out."""
    found = []
    tokens = list(_tokens(text))
    for at, token in enumerate(tokens):
        if token == "vrrp_instance" and at + 2 < len(tokens) and tokens[at + 2] == "{":
            found.append(_instance(tokens[at + 1], _block(tokens, at + 3)))
    return found


def conflicts(program: str, said: Redirection, others: list[VrrpInstance]) -> list[str]:
    """What other instances have of what the program needs for itself, in words."""
    address = str(ip_interface(said.address).ip)
    found = []
    for other in others:
        if other.name == name_of(program):
            continue
        if address in other.addresses:
            found.append(f"vrrp_instance {other.name} has the address {address}, and would put it here unasked")
        if (other.interface, other.router_id) == (said.interface, said.router_id):
            found.append(f"vrrp_instance {other.name} has virtual_router_id {said.router_id} on {said.interface}")
    return found


def _instance(name: str, block: list[str]) -> VrrpInstance:
    values: dict[str, str] = {}
    addresses: set[str] = set()
    depth = 0
    where = ""
    for token, after in zip(block, [*block[1:], ""], strict=True):
        if token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
        elif depth == 0:
            where = token if after == "{" else where
            values.setdefault(token, after)
        elif where in ("virtual_ipaddress", "virtual_ipaddress_excluded"):
            try:
                addresses.add(str(ip_interface(token).ip))
            except ValueError:
                continue
    router_id = values.get("virtual_router_id", "")
    number = int(router_id) if router_id.isascii() and router_id.isdigit() else 0
    return VrrpInstance(name, values.get("interface", ""), number, frozenset(addresses))


def _block(tokens: list[str], start: int) -> list[str]:
    """What is between a brace that was opened before `start` and the one that closes it."""
    depth = 1
    for at in range(start, len(tokens)):
        depth += {"{": 1, "}": -1}.get(tokens[at], 0)
        if depth == 0:
            return tokens[start:at]
    return tokens[start:]


def _tokens(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for token in _TOKENS.findall(_without_comment(line)):
            yield token.strip('"')


def _without_comment(line: str) -> str:
    """What keepalived reads of a line: comments begin with # or !."""
    return re.split(r"[#!]", line, maxsplit=1)[0]
