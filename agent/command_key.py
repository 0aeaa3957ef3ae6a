"""A command in a program's file, as every section that has one wants it."""

from __future__ import annotations

from transport.settings import Misfit


def whole(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command as it is. Raises Misfit: nothing to run, no absolute path, or what no process can be given."""
    if not command:
        raise Misfit("must not be empty", "the executable and its arguments, or leave the key out")
    if not command[0].startswith("/"):
        raise Misfit(f'the executable must be an absolute path, not "{command[0]}"', "begin it with /")
    if any("\0" in argument for argument in command):
        raise Misfit("an argument must not contain a NUL character", "take it out")
    return command
