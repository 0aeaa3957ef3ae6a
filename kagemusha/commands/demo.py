"""`kagemusha demo`: the whole story on one machine."""

from __future__ import annotations

import typer

from kagemusha.privilege import require_root

# The demo reads its own options: `kagemusha demo --help` is its own help.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def demo(context: typer.Context) -> None:
    """Kill a running redis-server and watch it go on in another process, on another node (all on this machine)."""
    if not {"-h", "--help"} & set(context.args):
        require_root("the demo makes network namespaces and traces processes")
    from kagemusha.demo.command import main

    raise typer.Exit(main(context.args))
