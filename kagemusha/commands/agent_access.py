"""An agent on this node, asked by a command over its control socket, past the cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from transport.errors import ControlError

if TYPE_CHECKING:
    from transport.control import Reply, Request

    Answer = TypeVar("Answer", bound=Reply)

Control = Annotated[
    Path | None, typer.Option(metavar="SOCKET", help="Ask an agent on this node instead, at its control socket.")
]


def ask_agent(path: Path, question: Request, answer: type[Answer], *, about: str, limit_s: float) -> Answer:
    """What the agent at a control socket answers within `limit_s`. about: a word for what is asked. Raises
    ControlError."""
    return asyncio.run(_ask(path, question, answer, about, limit_s))


async def _ask(path: Path, question: Request, answer: type[Answer], about: str, limit_s: float) -> Answer:
    from transport.control_socket import ControlClient

    try:
        async with asyncio.timeout(limit_s), await ControlClient.connect(path) as client:
            reply = await client.request(question)
    except TimeoutError:
        what = f"{path}: no reply within {limit_s:.0f} s"
        raise ControlError(what, hint="is the agent stopped or overloaded? its log says more") from None
    if not isinstance(reply, answer):
        raise ControlError(f"{path}: {type(reply).__name__} is no answer to a question for {about}")
    return reply
