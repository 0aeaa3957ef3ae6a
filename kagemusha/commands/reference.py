"""`kagemusha reference`: the documents that are written from the code."""

from __future__ import annotations

import sys

import typer


def group(whole: typer.Typer) -> typer.Typer:
    """The commands that print documents; `whole`: the command line that they are of."""
    app = typer.Typer(help="The documents that are written from the code.", no_args_is_help=True)

    @app.command()
    def api() -> None:
        """Print docs/api.md."""
        from kagemusha.api_reference import reference_markdown

        sys.stdout.write(reference_markdown())

    @app.command()
    def commands() -> None:
        """Print docs/cli.md."""
        from kagemusha.cli_reference import reference_markdown

        sys.stdout.write(reference_markdown(whole))

    @app.command()
    def metrics() -> None:
        """Print docs/metrics.md."""
        from kagemusha.metrics_reference import reference_markdown

        sys.stdout.write(reference_markdown())

    return app
