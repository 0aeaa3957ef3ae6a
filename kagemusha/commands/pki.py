"""`kagemusha pki`: the cluster's own certificate authority. Only nodes with a certificate from it take part."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The cluster's own certificate authority: only nodes with a certificate from it take part.",
    no_args_is_help=True,
)

AuthorityDirectory = Annotated[Path, typer.Argument(help="The authority's directory; keep it off the nodes.")]


@app.command()
def init(
    directory: AuthorityDirectory,
    cluster: Annotated[str, typer.Option(help="The cluster's name, for people.")] = "cluster",
) -> None:
    """Make a new authority: authority.pem and authority.key. An existing one is never replaced."""
    from transport.pki import Authority

    Authority.create(cluster).save(directory)
    sys.stdout.write(f"{directory}/authority.key signs the certificates of cluster {cluster}: keep it secret\n")


@app.command()
def issue(
    directory: AuthorityDirectory,
    node: Annotated[str, typer.Argument(help="The node's name: 1 to 63 of a-z, 0-9 and -.")],
    out: Annotated[Path, typer.Option(help="Directory for node.pem, node.key and authority.pem.")],
) -> None:
    """Issue a node's certificate; copy the directory OUT to that node, for `kagemusha agent --pki`."""
    from transport.pki import Authority

    Authority.load(directory).issue(node).save(out)
    sys.stdout.write(f"{out}/node.pem is the certificate of {node}; copy {out} to that node\n")
