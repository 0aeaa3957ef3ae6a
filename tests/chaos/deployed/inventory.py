"""A deployed cluster as Ansible's inventory describes it (deploy/ansible/inventory/example.yml).

Read are the group `kagemusha`, its hosts and the variables of both; not `group_vars` and `host_vars`, and of Jinja only
`lookup('env', ...)`. What else a path needs can be given by hand (`authority`).
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

GROUP: Final = "kagemusha"
API_PORT: Final = 7402
TAKEOVERS_MAX: Final = 3
"""`failover.max_takeovers` of a definition that does not name it (docs/program-toml.md)."""
_ENVIRONMENT: Final = re.compile(r"\{\{\s*lookup\(\s*'env'\s*,\s*'(\w+)'\s*\)\s*\}\}")
_SSH: Final = (
    "-oBatchMode=yes",
    "-oConnectTimeout=5",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=2",
    "-oLogLevel=ERROR",
)


class InventoryError(Exception):
    """An inventory that can't be read, or lacks something. It says what, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One node. ssh: the command line that leads there. address: at which the other nodes reach it. api: HOST:PORT."""

    name: str
    ssh: tuple[str, ...]
    address: str
    api: str


@dataclass(frozen=True, slots=True)
class Served:
    """A program. address: its own, without a prefix length; "" where there is none. driver: what carries it.
    takeovers_max: after so many within its window it is started without what it held."""

    program: str
    address: str
    driver: str
    takeovers_max: int = TAKEOVERS_MAX


@dataclass(frozen=True, slots=True)
class Inventory:
    """The whole cluster. authority: the directory of its authority and of the operator's token, on this machine."""

    cluster: str
    authority: Path
    machines: Mapping[str, Machine]
    programs: Mapping[str, Served]


def read_inventory(path: Path, authority: Path | None = None) -> Inventory:
    """Raises InventoryError."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InventoryError(f"{path}: no inventory: {' '.join(str(error).split())}") from None
    group = _group(document)
    if not group or not isinstance(group.get("hosts"), dict) or not group["hosts"]:
        raise InventoryError(f"{path}: there is no group {GROUP} with hosts; see deploy/ansible/inventory/example.yml")
    variables = {**_variables(document.get("all")), **_variables(group)}
    cluster = _text(path, variables, "kagemusha_cluster")
    machines = {
        str(name): _machine(path, str(name), {**variables, **(own or {})}) for name, own in group["hosts"].items()
    }
    directory = authority or Path(_text(path, variables, "kagemusha_authority", "give --authority DIR"))
    programs = [_served(path, one) for one in variables.get("kagemusha_programs") or []]
    return Inventory(cluster, directory, machines, {one.program: one for one in programs})


def _group(document: Any) -> dict[str, Any] | None:
    """The group, wherever it stands among the children of others."""
    if not isinstance(document, dict):
        return None
    for name, group in document.items():
        if name == GROUP and isinstance(group, dict):
            return group
        if isinstance(group, dict) and (found := _group(group.get("children"))) is not None:
            return found
    return None


def _variables(group: Any) -> dict[str, Any]:
    found = group.get("vars") if isinstance(group, dict) else None
    return found if isinstance(found, dict) else {}


def _text(path: Path, variables: Mapping[str, Any], name: str, remedy: str = "add it") -> str:
    value = variables.get(name)
    if value is None or value == "":
        raise InventoryError(f"{path}: {name} is missing: {remedy}")
    text = _ENVIRONMENT.sub(lambda match: os.environ.get(match[1], ""), str(value))
    if "{{" in text:
        raise InventoryError(f"{path}: {name} is a template that only Ansible understands: {remedy}")
    return text


def _machine(path: Path, name: str, variables: Mapping[str, Any]) -> Machine:
    host = _text(path, {"ansible_host": name, **variables}, "ansible_host")
    address = _text(path, {"kagemusha_address": host, **variables}, "kagemusha_address")
    words = ["ssh", *_SSH]
    for variable, option in (("ansible_port", "-p"), ("ansible_ssh_private_key_file", "-i")):
        if variable in variables:
            words += [option, os.path.expanduser(_text(path, variables, variable))]
    for variable in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        words += shlex.split(str(variables.get(variable) or ""))
    user = variables.get("ansible_user")
    ports = variables.get("kagemusha_ports") or {}
    return Machine(
        name, (*words, f"{user}@{host}" if user else host), address, f"{address}:{ports.get('api', API_PORT)}"
    )


def _served(path: Path, one: Any) -> Served:
    try:
        # One that is adopted says these itself, and has a definition's other tables among its additions.
        definition = tomllib.loads(one["definition"] if "definition" in one else one.get("additions") or "")
        redirect = definition.get("redirect", {}) if "definition" in one else one
        address = str(redirect.get("address", "")).partition("/")[0]
        takeovers_max = int(definition.get("failover", {}).get("max_takeovers", TAKEOVERS_MAX))
        return Served(str(one["id"]), address, str(redirect.get("driver", "keepalived")), takeovers_max)
    except (KeyError, TypeError, AttributeError, tomllib.TOMLDecodeError) as error:
        raise InventoryError(f"{path}: kagemusha_programs: {one!r:.60}: {type(error).__name__}: {error}") from None
