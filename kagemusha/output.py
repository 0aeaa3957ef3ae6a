"""What a command found, as a person or a program wants it: a table, JSON or YAML; once, or again and again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

PLAIN_COLUMNS = 160
"""Width of what does not go to a terminal: nothing is cut off there."""
WATCH_S = 1.0

Render = Callable[[Any], RenderableType]


class Format(StrEnum):
    """How a result is written to stdout."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def console() -> Console:
    """stdout, for people: colours where the terminal has them, none with NO_COLOR. "[stack]" is no markup."""
    plain = Console(highlight=False, markup=False, emoji=False)
    if not plain.is_terminal:
        plain.width = max(plain.width, PLAIN_COLUMNS)
    return plain


def write(found: Any, output: Format, render: Render) -> None:
    """Write one result to stdout."""
    if output is Format.JSON:
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    elif output is Format.YAML:
        import yaml

        sys.stdout.write(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))
    else:
        console().print(render(found))


async def watch(fetch: Callable[[], Awaitable[Any]], output: Format, render: Render, every_s: float = WATCH_S) -> None:
    """Write the result again and again, until interrupted: in place on a terminal, as a stream of documents else."""
    if output is not Format.TABLE:
        while True:
            found = await fetch()
            if output is Format.JSON:
                sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
            else:
                sys.stdout.write("---\n")
                write(found, output, render)
            sys.stdout.flush()
            await asyncio.sleep(every_s)
    screen = console()
    with Live(render(await fetch()), console=screen, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(every_s)
            live.update(render(await fetch()), refresh=True)
