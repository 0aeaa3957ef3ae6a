"""`kagemusha preflight`: before anything starts, what can't be mirrored, and what to do about it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kagemusha.exit_codes import ExitCode
from transport.errors import PreflightError

if TYPE_CHECKING:
    from agent.preflight.check import Report


def preflight(
    config: Annotated[Path, typer.Argument(help="The program's program.toml.")],
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as one JSON object.")] = False,
    facts: Annotated[bool, typer.Option("--facts", help="Only this node's fingerprint, as JSON.")] = False,
    compare: Annotated[
        Path | None, typer.Option(help="A file with another node's --facts: the two nodes must be alike.")
    ] = None,
    pid: Annotated[
        int | None, typer.Option(min=1, help="The program runs already: look at what it has in use.")
    ] = None,
) -> None:
    """Say what of a program or of this node can't be mirrored, and what to do about it. Nothing is started or changed.

    To compare two nodes, write what --facts says on one of them to a file, and give it to --compare on the other. Exit
    code 4: something stands in the way.
    """
    from agent.preflight import check as room
    from agent.preflight.fingerprint import Fingerprint
    from agent.program_file import load_definition

    if facts and (as_json or compare):
        raise typer.BadParameter("--facts stands alone")
    definition = load_definition(config)
    if facts:
        sys.stdout.write(room.facts_of(definition, pid).to_json() + "\n")
        return
    other = None if compare is None else Fingerprint.from_json(_text_of(compare), str(compare))
    report = room.preflight(definition, pid, other)
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n")
    else:
        _show(config, report)
    if report.reasons:
        raise typer.Exit(ExitCode.PREFLIGHT)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8"
        raise PreflightError(f"{path}: can't be read: {why}", hint="give a file with another node's --facts") from error


def _show(config: Path, report: Report) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        mark = ("ok", "green") if check.passed else ("NO", "bold red")
        console.print(Text.assemble(mark, f"  {check.name:{width}}  ", (check.detail, "dim")))
    for note in report.notes:
        console.print(Text(f"note: {note}"))
    sys.stdout.flush()
    for reason in report.reasons:
        sys.stderr.write(f"{config}: {reason}\n")
        if reason.remedy:
            sys.stderr.write(f"hint: {reason.remedy}\n")
    if not report.reasons:
        console.print(f"{report.program} can be mirrored from and to this node")
