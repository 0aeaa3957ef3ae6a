"""The command line: which commands there are, and how an error looks to a person.

Data goes to stdout, everything else to stderr. An error is one line, and a second one that begins with `hint:` where
there is a remedy. The commands import what they need when they run, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer

from kagemusha.commands import (
    adopt_unit,
    agent,
    boot,
    cluster,
    config,
    context,
    create,
    demo,
    events,
    log_level,
    maintenance,
    node,
    pki,
    preflight,
    reference,
    shutdown,
    status,
    structures,
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
_MAINTENANCE = "Around work on a node"
_NODE = "On a node"


def _add(name: str, command: Callable[..., None], panel: str | None = None, **settings: Any) -> None:
    """Make a function a command. Its help is its docstring, a paragraph a line: the terminal has its own width."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(name, help=text, rich_help_panel=panel, **settings)(command)


def _tell_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"kagemusha {version('kagemusha')}\n")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Nothing is done before a command: this takes the options of all of them."""


_add("demo", demo.demo, context_settings=demo.CONTEXT)
_add("create", create.create, _CLUSTER)
_add("list", cluster.list_programs, _CLUSTER)
_add("status", status.status, _CLUSTER)
_add("context", context.context, _CLUSTER)
_add("structures", structures.structures, _CLUSTER)
_add("topology", cluster.topology, _CLUSTER)
_add("top", top.top, _CLUSTER)
_add("history", events.history, _CLUSTER)
_add("events", events.events, _CLUSTER)
_add("switchover", cluster.switchover, _CLUSTER)
_add("start", cluster.start, _CLUSTER)
_add("stop", cluster.stop, _CLUSTER)
_add("delete", cluster.delete, _CLUSTER)
_add("pause", maintenance.pause, _MAINTENANCE)
_add("resume", maintenance.resume, _MAINTENANCE)
_add("drain", maintenance.drain, _MAINTENANCE)
_add("undrain", maintenance.undrain, _MAINTENANCE)
_add("log-level", log_level.log_level, _MAINTENANCE)
_add("shutdown", shutdown.shutdown, _MAINTENANCE)
_add("startup", shutdown.startup, _MAINTENANCE)
_add("failover", maintenance.failover, _MAINTENANCE)
_add("preflight", preflight.preflight, _NODE)
_add("adopt-unit", adopt_unit.adopt_unit, _NODE)
_add("node", node.node, _NODE)
_add("agent", agent.agent, _NODE)
app.add_typer(config.app, name="config", rich_help_panel=_NODE)
app.add_typer(pki.app, name="pki", rich_help_panel=_NODE)
app.add_typer(reference.group(app), name="reference", hidden=True)
_add("token", token.token, _NODE)
_add("watchdog", watchdog.watchdog, hidden=True)
_add("before-shutdown", boot.before_shutdown, hidden=True)
_add("after-boot", boot.after_boot, hidden=True)


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
