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

from kagemusha.commands import agent, config, demo, pki, preflight, status, watchdog
from kagemusha.exit_codes import ExitCode, exit_code_of
from transport.errors import KagemushaError

app = typer.Typer(
    name="kagemusha",
    help="A body double for a running program: mirrored live, continued on another node when the program or its node "
    "dies.",
    epilog="Exit codes: docs/exit-codes.md. A program is defined by its program.toml: docs/program-toml.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", context_settings=demo.CONTEXT)(demo.demo)
app.command("preflight")(preflight.preflight)
app.add_typer(config.app, name="config")
app.add_typer(pki.app, name="pki")
app.command("agent")(agent.agent)
app.command("status")(status.status)
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
