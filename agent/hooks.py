"""The section [hooks] of NAME.toml: how a program whose structures are mirrored is told of its role. Values only.

Every field's description is the text of the generated reference (docs/program-toml.md), so it is written for operators.
"""

from __future__ import annotations

import signal
from typing import Annotated, Final

from pydantic import Field, field_validator

from agent.command_key import whole
from transport.settings import Misfit, Section

_UNFIT: Final = {"SIGKILL", "SIGSTOP", "SIGCONT", "SIGCHLD"}
_Command = Annotated[tuple[str, ...], Field(strict=False)]
_Signal = str | None


class Hooks(Section):
    """How a program with `mode = "structures"` is told that its role has changed, beside `KAGEMUSHA_ROLE` in its
    environment at the start, and the library, whose own functions run first. A signal is sent to the program; a command
    is run with the program's user and group, and knows `KAGEMUSHA_PROGRAM`, `KAGEMUSHA_INSTANCE`, `KAGEMUSHA_ROLE`,
    `KAGEMUSHA_PID` and `KAGEMUSHA_TOKEN`."""

    on_promote_signal: _Signal = Field(
        default=None,
        description="A mirror has become the primary: this signal (`SIGUSR1`, say) is sent to the program.",
    )
    on_promote: _Command = Field(
        default=(),
        description="A mirror has become the primary: this command is run. Clients are led here when it has ended.",
    )
    on_demote_signal: _Signal = Field(
        default=None,
        description="The primary is to come to a stop for a switchover: this signal is sent to it, before the last of "
        "its structures is read.",
    )
    on_demote: _Command = Field(default=(), description="The same as a command; the last is read when it has ended.")
    timeout_ms: int = Field(
        default=1000, ge=10, le=5000, description="A command that takes longer has failed, and is ended."
    )

    @field_validator("on_promote_signal", "on_demote_signal")
    @classmethod
    def _is_a_signal(cls, name: str | None) -> str | None:
        if name is not None and (name not in signal.Signals.__members__ or name in _UNFIT):
            raise Misfit(f'"{name}" is no signal that a program could be told by', '"SIGUSR1", say')
        return name

    @field_validator("on_promote", "on_demote")
    @classmethod
    def _is_a_command(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        return whole(command)
