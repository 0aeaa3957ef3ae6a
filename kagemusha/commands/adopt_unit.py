"""`kagemusha adopt-unit`: a program.toml out of a systemd service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kagemusha.exit_codes import ExitCode
from transport.errors import ConfigError


def adopt_unit(
    unit: Annotated[
        str, typer.Argument(metavar="UNIT", help="Name of the service: redis-server.service, postgresql@15-main.")
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option(help="Read the file of the unit, and the drop-ins beside it, instead of asking systemd."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there, for root alone. Else to stdout.")
    ] = None,
    program_id: Annotated[
        str, typer.Option("--id", metavar="NAME", help="Id of the program. Else the unit's name.")
    ] = "",
    driver: Annotated[
        str, typer.Option(help="address or keepalived: how clients are led, with --address.")
    ] = "address",
    address: Annotated[str, typer.Option(help="The address that moves with it, 10.0.0.100/24.")] = "",
    interface: Annotated[str, typer.Option(help="The interface that carries the address.")] = "",
    router_id: Annotated[int, typer.Option(min=0, max=255, help="For keepalived: its virtual_router_id.")] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing where something must be changed first; exit code 4.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file.")] = False,
) -> None:
    """Make a program.toml of a systemd service: command, user, environment, limits, directories. Nothing is changed.

    What does not carry over is told on stderr, one line each, and stands in the file: `change` will not work unless it
    is changed first, `lost` is not there any more, `note` is so in another way. Look through the file, then let
    `kagemusha preflight` look.
    """
    from kagemusha.unit.source import of_file, of_systemd, this_node
    from kagemusha.unit.toml import Clients, text_of
    from kagemusha.unit.translate import translate

    if not unit and file is None:
        raise typer.BadParameter("name a unit, or give --file", param_hint="'UNIT'")
    if driver not in ("address", "keepalived"):
        raise typer.BadParameter(f"{driver} is neither address nor keepalived", param_hint="'--driver'")
    if bool(address) != bool(interface):
        raise typer.BadParameter("--address and --interface belong together")
    found = of_file(file, unit) if file is not None else of_systemd(unit)
    program = translate(found, this_node(), program_id)
    text = text_of(program, found.name, Clients(driver, address, interface, router_id) if address else Clients())
    _require_good(text, found.name)
    for remark in program.remarks:
        sys.stderr.write(f"{found.name}: {remark}\n")
    if strict and any(remark.weight == "change" for remark in program.remarks):
        raise typer.Exit(ExitCode.PREFLIGHT)
    if output is None:
        sys.stdout.write(text)
        return
    _write(output, text, force=force)


def _require_good(text: str, name: str) -> None:
    """Raise ConfigError where the file that was made is none: the unit says something that no program can be."""
    import tomllib

    from pydantic import ValidationError

    from agent.program import Definition

    try:
        Definition.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{name}: as a program: {key}: {first['msg']}", hint="see docs/program-toml.md") from None


def _write(path: Path, text: str, *, force: bool) -> None:
    """The whole file or nothing; for root alone, since variables may be secrets. Raises ConfigError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            if force:
                os.replace(beside, path)
            else:
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except FileExistsError:
        raise ConfigError(f"{path}: is there already", hint="--force replaces it") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}", hint="check its directory") from error
