"""`kagemusha config`: what a program.toml can say, and whether one is right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kagemusha.exit_codes import ExitCode

app = typer.Typer(help="What a program.toml can say, and whether one is right.", no_args_is_help=True)


@app.command()
def reference() -> None:
    """Print the reference of program.toml, in Markdown."""
    from kagemusha.config_reference import reference_markdown

    sys.stdout.write(reference_markdown())


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A program.toml.")]) -> None:
    """Check a program.toml; every mistake is one line. Nothing is started or changed."""
    from agent.program_file import load_definition, mistakes_in

    mistakes = mistakes_in(file)
    for mistake in mistakes:
        sys.stderr.write(f"{mistake}\nhint: {mistake.hint}\n")
    if mistakes:
        raise typer.Exit(ExitCode.CONFIG)
    definition = load_definition(file)
    sys.stdout.write(f"{file}: program {definition.program.id} is well defined, digest {definition.digest()[:12]}\n")
