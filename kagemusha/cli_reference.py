"""The reference of the command line, written from the commands themselves: it can't say anything else than they do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from kagemusha.exit_codes import MEANINGS

_HEAD = """\
# The command line

<!-- Written by `kagemusha reference commands`; change the commands in kagemusha/commands/ instead. -->

Data goes to stdout, everything else to stderr. An error is one line and a second one, `hint:`, with the remedy; the
exit code says whose turn it is (docs/exit-codes.md). `-o json` and `-o yaml` give programs what `-o table` gives
people. Colours follow the terminal and `NO_COLOR`. `kagemusha --install-completion` completes commands, programs and
instances.

Commands that ask the cluster take `-e HOST:PORT` (any node will do), `--token-file` and `--authority`, or the variables
`KAGEMUSHA_ENDPOINTS`, `KAGEMUSHA_TOKEN` or `KAGEMUSHA_TOKEN_FILE`, and `KAGEMUSHA_AUTHORITY`. On a node
`/etc/kagemusha/token` and `/etc/kagemusha/pki/authority.pem` are found by themselves.
"""
_METAVARS: dict[Any, str] = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH", bool: ""}
_ACCESS = ("endpoint", "token_file", "authority")


def reference_markdown(app: typer.Typer) -> str:
    """The whole document."""
    sections = [_section(" ".join(("kagemusha", *words)), callback) for words, callback in commands(app)]
    codes = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())
    return "\n".join([_HEAD, *sections, f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n"])


def commands(app: typer.Typer) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    """The words and the function of each command that is for people, also of groups."""
    for command in app.registered_commands:
        if command.callback is not None and not command.hidden:
            yield (command.name or command.callback.__name__,), command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None and group.hidden is not True:
            for words, callback in commands(group.typer_instance):
                yield (str(group.name), *words), callback


def _section(name: str, callback: Callable[..., Any]) -> str:
    hints = get_type_hints(callback, include_extras=True)
    arguments: list[str] = []
    rows: list[str] = []
    shared = False
    for parameter in inspect.signature(callback).parameters.values():
        hint = hints[parameter.name]
        if get_origin(hint) is not Annotated:
            continue
        kind, info = get_args(hint)[:2]
        if isinstance(info, ArgumentInfo):
            word = parameter.name.upper()
            arguments.append(word if parameter.default is inspect.Parameter.empty else f"[{word}]")
            rows.append(_row(word, info.help, ""))
        elif isinstance(info, OptionInfo) and parameter.name in _ACCESS:
            shared = True
        elif isinstance(info, OptionInfo) and not info.hidden:
            rows.append(_row(_option(parameter.name, kind, info), info.help, _default(parameter.default)))
    usage = " ".join([name, "[OPTIONS]", *arguments])
    text = inspect.cleandoc(callback.__doc__ or "")
    lines = [f"## {name}", "", "```", usage, "```", "", text, ""]
    if rows:
        lines += ["| | meaning | default |", "|---|---|---|", *rows, ""]
    if shared:
        lines += ["And the options for access to the cluster, see above.", ""]
    return "\n".join(lines)


def _row(what: str, meaning: str | None, default: str) -> str:
    text = (meaning or "").replace("|", "\\|").replace("<", "&lt;")
    return f"| `{what}` | {text} | {default} |"


def _option(name: str, kind: Any, info: OptionInfo) -> str:
    # Within Annotated the first declaration stands where a default value would.
    declared = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
    words = [word for word in declared if word.startswith("-")] or [f"--{name.replace('_', '-')}"]
    metavar = info.metavar or _METAVARS[_plain(kind)]
    return ", ".join(words) + (f" {metavar}" if metavar else "")


def _plain(kind: Any) -> Any:
    """The type of one value of `kind`, which may be a list of it or None."""
    arguments = [one for one in get_args(kind) if one is not NoneType]
    return _plain(arguments[0]) if arguments else kind


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    return "" if value in (None, "", False) else "yes" if value is True else f"`{value}`"
