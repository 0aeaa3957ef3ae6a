"""`kagemusha pki`: the cluster's own certificate authority. Only nodes with a certificate from it take part."""

from __future__ import annotations

import datetime
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


@app.command()
def renew(directory: AuthorityDirectory) -> None:
    """Make a successor of an authority in its place. Certificates of both are trusted until `pki retire`.

    Then issue every node's certificate again. First have every node know the new authority.pem, then give each its new
    certificate: `kagemusha node` and `kagemusha agent` read both again when they get SIGHUP. No link is closed by it.
    """
    from transport.pki import Authority

    Authority.load(directory).renew(directory)
    sys.stdout.write(
        f"{directory}/authority.pem has two certificates: copy it to every node, then issue theirs again\n"
    )


@app.command()
def retire(directory: AuthorityDirectory) -> None:
    """Trust the authority before this one no more, when every node has a certificate of this one."""
    from transport.pki import Authority

    Authority.load(directory).retire(directory)
    sys.stdout.write(f"{directory}/authority.pem has one certificate: copy it to every node\n")


@app.command()
def check(
    directory: Annotated[Path, typer.Argument(help="A node's directory, as `pki issue` wrote it.")],
    days: Annotated[int, typer.Option(help="It must be valid for so long.")] = 30,
) -> None:
    """Check a node's certificate: its key, its authority, how long it is valid. Exit code 3: issue it again."""
    from transport.errors import ConfigError
    from transport.pki import Identity, expiry

    node, until = Identity.load(directory).node, expiry(directory)
    if until < datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days):
        what = f"{directory}: the certificate of node {node} expires on {until:%Y-%m-%d}, in less than {days} days"
        raise ConfigError(what, hint=f"kagemusha pki issue AUTHORITY {node} --out {directory}")
    sys.stdout.write(f"{node}: valid until {until:%Y-%m-%d}\n")
