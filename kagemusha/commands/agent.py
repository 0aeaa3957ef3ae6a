"""`kagemusha agent`: the process beside one instance; usually started by a supervisor, not by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kagemusha.endpoint import parse_endpoint
from kagemusha.privilege import require_root


def agent(
    config: Annotated[Path, typer.Option(help="The program's program.toml.")],
    node: Annotated[str, typer.Option(help="Name of this node, as its certificate says.")],
    directory: Annotated[Path, typer.Option(help="Where the agent keeps logs and its own files.")],
    control: Annotated[Path, typer.Option(help="Unix socket on which it takes orders.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT where other agents subscribe to its checkpoints.")],
    pki: Annotated[Path, typer.Option(help="Directory that `kagemusha pki issue` wrote for this node.")],
) -> None:
    """Run the agent of one instance: it launches or follows a program as its control socket orders."""
    require_root("an agent traces the program and restores its connections")
    from agent.program_file import load_definition

    definition = load_definition(config)
    endpoint = parse_endpoint(listen)
    from agent.runner import run

    raise typer.Exit(run(definition, node=node, directory=directory, control=control, listen=endpoint, pki=pki))
