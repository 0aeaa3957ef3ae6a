"""The text of a program.toml that was made of a unit. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from kagemusha.unit.translate import Program


@dataclass(frozen=True, slots=True)
class Clients:
    """How clients find it, as `[redirect]` says it; driver "": somebody adds it by hand."""

    driver: str = ""
    address: str = ""
    interface: str = ""
    router_id: int = 0


def text_of(program: Program, unit: str, clients: Clients) -> str:
    """The whole file. unit: its name."""
    return "\n".join(
        [*_head(program, unit), *_program(program), *_rest(program), *_clients(clients), *_failover(program)]
    )


def _head(program: Program, unit: str) -> Iterator[str]:
    yield f"# Adopted from {unit}. On every node, before `kagemusha create`: systemctl disable --now {unit}"
    for remark in program.remarks:
        yield f"# {remark}"
    if program.tmpfiles:
        yield f"# Lines for /etc/tmpfiles.d/kagemusha-{program.id}.conf on every node, then systemd-tmpfiles --create:"
        yield from (f"#   {line}" for line in program.tmpfiles)
    yield ""


def _program(program: Program) -> Iterator[str]:
    yield "[program]"
    yield f"id = {_quoted(program.id)}"
    yield f"command = [{', '.join(map(_quoted, program.command))}]"
    for key, value in (("user", program.user), ("group", program.group)):
        if value:
            yield f"{key} = {_quoted(value)}"
    if program.directory != "/":
        yield f"directory = {_quoted(program.directory)}"
    yield f"umask = {_quoted(program.umask)}"
    if program.oom_score_adjust:
        yield f"oom_score_adjust = {program.oom_score_adjust}"
    if program.environment:
        yield from ("", "[program.environment]")
        yield from (f"{_quoted(name)} = {_quoted(value)}" for name, value in program.environment.items())
    yield ""


def _rest(program: Program) -> Iterator[str]:
    if program.limits:
        yield "[limits]"
        yield from (f"{name} = {value}" for name, value in program.limits.items())
        yield ""
    if program.memory_mib_max:
        yield from ("[mirror]", f"memory_mib_max = {program.memory_mib_max}", "")
    for pattern in program.local:
        yield from ("[[files]]", f"path = {_quoted(pattern)}", 'rule = "local"', "")
    if program.undecided:
        yield "# What becomes of files that are written, when another node goes on? shared: the same file is there."
        yield "# local: that node's own, whatever is in it. discard: it starts empty there. Decide, and uncomment."
        for pattern in program.undecided:
            yield from ("# [[files]]", f"# path = {_quoted(pattern)}", '# rule = "shared"', "")


def _clients(clients: Clients) -> Iterator[str]:
    if not clients.driver:
        yield "# How do clients find it? Without this they must look for the node that serves by themselves."
        yield from ("# [redirect]", '# driver = "address"', '# address = "10.0.0.100/24"', '# interface = "eth0"', "")
        return
    yield from ("[redirect]", f"driver = {_quoted(clients.driver)}", f"address = {_quoted(clients.address)}")
    yield f"interface = {_quoted(clients.interface)}"
    if clients.router_id:
        yield f"router_id = {clients.router_id}"
    yield ""


def _failover(program: Program) -> Iterator[str]:
    yield from ("[failover]", f"restart = {_quoted(program.restart)}", f"grace_ms = {program.grace_ms}", "")


def _quoted(text: str) -> str:
    """A basic string of TOML. JSON's escapes are among TOML's; DEL must be one as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
