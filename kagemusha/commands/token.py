"""`kagemusha token`: a new token for the API, of which a node keeps only the hash."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kagemusha.commands.cluster_access import note
from transport.errors import ConfigError

_SCOPES = ("viewer", "operator", "admin")


def token(
    name: Annotated[str, typer.Argument(help="Whose it is: 1 to 63 of a-z, 0-9 and -. It stands in logs.")],
    scope: Annotated[
        str, typer.Option(help="viewer: look. operator: also switch over, start, stop. admin: also create, delete.")
    ],
    file: Annotated[Path, typer.Option(metavar="FILE", help="Tokens file to append its hash to; made if need be.")],
) -> None:
    """Make a token for the API. It is printed once, and only its hash is kept, in the tokens file.

    Copy the tokens file to every node; the nodes read it again by themselves. Keep the token where only its owner
    reads it: `kagemusha token ops --scope operator --file /etc/kagemusha/tokens.toml > ~/.kagemusha-token`.
    """
    from cluster.admin.auth import TOKENS_FILE, entry_text, make_token

    if scope not in _SCOPES:
        raise typer.BadParameter(f"{scope} is none of {', '.join(_SCOPES)}", param_hint="'--scope'")
    was_there = file.exists()
    known = TOKENS_FILE.load(file).tokens if was_there else ()
    if name in {one.name for one in known}:
        raise ConfigError(f"{file}: has a token of the name {name}", hint="take another name, or remove its entry")
    made, digest = make_token()
    old = file.read_text(encoding="utf-8") if was_there else ""
    text = old + ("\n" if old else "") + entry_text(name, scope, digest)  # type: ignore[arg-type]
    _write(file, text)
    try:
        TOKENS_FILE.load(file)
    except ConfigError:
        if was_there:
            _write(file, old)
        else:
            file.unlink()
        raise
    sys.stdout.write(made + "\n")
    note(f"{file} has its hash; copy that file to every node")


def _write(file: Path, text: str) -> None:
    """Replace the file as a whole, readable for its owner alone."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(f"{file}: can't be written: {error.strerror}", hint="check its directory") from error
