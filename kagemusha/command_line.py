"""The command line: which commands there are, and how an error looks to a person.

Data goes to stdout, everything else to stderr. An error is one line, and a second one that begins with `hint:` where
there is a remedy. The commands import what they need when they run, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import typer

from kagemusha.commands import (
    agent,
    cluster,
    config,
    context,
    create,
    demo,
    node,
    pki,
    preflight,
    reference,
    status,
    token,
    top,
    watchdog,
)
from kagemusha.exit_codes import ExitCode, exit_code_of
from transport.errors import KagemushaError

app = typer.Typer(
    name="kagemusha",
    help="A body double for a running program: mirrored live, continued on another node when the program or its node "
    "dies.",
    epilog="All commands: docs/cli.md. Exit codes: docs/exit-codes.md. A program is defined by its program.toml: "
    "docs/program-toml.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_CLUSTER = "The cluster, from anywhere"
_NODE = "On a node"

app.command("demo", context_settings=demo.CONTEXT)(demo.demo)
app.command("create", rich_help_panel=_CLUSTER)(create.create)
app.command("list", rich_help_panel=_CLUSTER)(cluster.list_programs)
app.command("status", rich_help_panel=_CLUSTER)(status.status)
app.command("context", rich_help_panel=_CLUSTER)(context.context)
app.command("topology", rich_help_panel=_CLUSTER)(cluster.topology)
app.command("top", rich_help_panel=_CLUSTER)(top.top)
app.command("events", rich_help_panel=_CLUSTER)(cluster.events)
app.command("switchover", rich_help_panel=_CLUSTER)(cluster.switchover)
app.command("start", rich_help_panel=_CLUSTER)(cluster.start)
app.command("stop", rich_help_panel=_CLUSTER)(cluster.stop)
app.command("delete", rich_help_panel=_CLUSTER)(cluster.delete)
app.command("preflight", rich_help_panel=_NODE)(preflight.preflight)
app.command("node", rich_help_panel=_NODE)(node.node)
app.command("agent", rich_help_panel=_NODE)(agent.agent)
app.add_typer(config.app, name="config", rich_help_panel=_NODE)
app.add_typer(pki.app, name="pki", rich_help_panel=_NODE)
app.add_typer(reference.app, name="reference", hidden=True)
app.command("token", rich_help_panel=_NODE)(token.token)
app.command("watchdog", hidden=True)(watchdog.watchdog)


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code; errors are printed, none escapes but a bug."""
    try:
        result = app(args=list(arguments), prog_name="kagemusha", standalone_mode=False)
    except KagemushaError as error:
        complain(error)
        return exit_code_of(error)
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return ExitCode.OK
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _complain_of_usage(error.format_message(), getattr(error, "ctx", None))
        return ExitCode.USAGE
    return result if isinstance(result, int) else ExitCode.OK


def complain(error: KagemushaError) -> None:
    """Print an error as a person wants it: what is wrong, and what to do about it."""
    sys.stderr.write(f"{error.what}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")


def _complain_of_usage(message: str, context: typer.Context | None) -> None:
    """Print what is wrong with the command line; nothing where its help was printed instead."""
    line = " ".join(message.split())
    if line:
        command = context.command_path if context else "kagemusha"
        sys.stderr.write(f"{line}\nhint: {command} --help\n")


def _forget_stdout() -> None:
    """Whoever read our output is gone (`| head`): nothing more to say, and no complaint at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
