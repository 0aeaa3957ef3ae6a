"""What a definition says is to be done when a program's role has changed: a signal, a command. In the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from agent.launch.identity import Identity, environment_of, identity_of
from agent.program import Definition
from transport.control import Role

log = structlog.get_logger()

_WORDS_MAX = 300


class RoleHooks:
    """Of one instance."""

    def __init__(self, definition: Definition, instance: str) -> None:
        self._definition = definition
        self._instance = instance

    async def run(self, role: Role, token: int, pid: int) -> None:
        """Send the signal, and run the command to its end. What fails is said, and stops nothing."""
        hooks = self._definition.hooks
        named, command = (
            (hooks.on_promote_signal, hooks.on_promote)
            if role == "primary"
            else (hooks.on_demote_signal, hooks.on_demote)
        )
        if named is not None and pid:
            try:
                os.kill(pid, signal.Signals[named])
            except ProcessLookupError:
                log.warning("a hook's signal finds no program", role=role)
        if command:
            trouble = await self._command(command, role, token, pid)
            if trouble:
                log.error("a hook has failed", role=role, command=command[0], reason=trouble)

    async def _command(self, command: tuple[str, ...], role: Role, token: int, pid: int) -> str:
        """Why it failed, "" when it did not."""
        program = self._definition.program
        identity = identity_of(program)
        environment = {
            **environment_of(program, identity),
            "KAGEMUSHA_PROGRAM": program.id,
            "KAGEMUSHA_INSTANCE": self._instance,
            "KAGEMUSHA_ROLE": role,
            "KAGEMUSHA_PID": str(pid),
            "KAGEMUSHA_TOKEN": str(token),
        }
        run = partial(_run, command, program.directory, environment, identity, self._definition.hooks.timeout_ms / 1000)
        return await asyncio.to_thread(run)


def _run(
    command: Sequence[str], directory: str, environment: Mapping[str, str], identity: Identity, timeout_s: float
) -> str:
    """In a thread: asyncio's own subprocesses need SIGCHLD, which the tracer thread takes."""
    is_root = os.geteuid() == 0
    try:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=identity.uid if is_root else None,
            group=identity.gid if is_root else None,
            extra_groups=identity.groups if is_root else None,
            preexec_fn=_block_nothing,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return getattr(error, "strerror", None) or str(error)
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"it does not end within {timeout_s:g} s"
    if process.returncode == 0:
        return ""
    words = " ".join(said.decode(errors="replace").split())[-_WORDS_MAX:]
    return f"it ended with status {process.returncode}" + (f": {words}" if words else "")


def _block_nothing() -> None:
    """In the new process: the agent's own threads block signals that a command may live by."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
