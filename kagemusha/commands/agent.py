"""`kagemusha agent`: the process beside one instance; usually started by a supervisor, not by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kagemusha.endpoint import parse_endpoint
from kagemusha.privilege import require_root
from kagemusha.promptness import be_prompt
from transport.errors import ConfigError


def agent(
    config: Annotated[Path, typer.Option(help="The program's program.toml.")],
    node: Annotated[str, typer.Option(help="Name of this node, as its certificate says.")],
    directory: Annotated[Path, typer.Option(help="Where the agent keeps logs and its own files.")],
    control: Annotated[Path, typer.Option(help="Unix socket on which it takes orders.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT where other agents subscribe to its checkpoints.")],
    pki: Annotated[Path, typer.Option(help="Directory that `kagemusha pki issue` wrote for this node.")],
    after: Annotated[int, typer.Option(min=0, help="Its incarnation is above this, that of those before it.")] = 0,
) -> None:
    """Run the agent of one instance: it launches or follows a program as its control socket orders."""
    from agent.program_file import load_definition

    definition = load_definition(config)
    if definition.mirror.mode == "process":
        require_root("an agent traces the program and restores its connections")
    be_prompt()
    endpoint = parse_endpoint(listen)
    _require_own_certificate(pki, node)
    from agent.runner import run

    raise typer.Exit(
        run(definition, node=node, directory=directory, control=control, listen=endpoint, pki=pki, after=after)
    )


def _require_own_certificate(pki: Path, node: str) -> None:
    """Raise ConfigError unless the certificate in `pki` is this node's: its peers would take it for another."""
    from transport.pki import NODE_CERTIFICATE, Identity

    owner = Identity.load(pki).node
    if owner != node:
        what = f"{pki / NODE_CERTIFICATE}: is the certificate of node {owner}, not of {node}"
        raise ConfigError(what, hint=f"kagemusha pki issue AUTHORITY {node} --out {pki}")
