"""`exec`: the operator's own commands, from a file that only root can write."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from typing import Literal

from cluster.health.check import Exec
from cluster.health.command import run
from cluster.redirect.address import ensure_carried
from cluster.redirect.driver import Carrier, RedirectError, Tokens
from cluster.redirect.redirection import Redirection
from transport.trust import other_writer

Action = Literal["claim", "release", "check"]


class ExecDriver:
    """See `driver.Driver`. One command at a time; each has `timeout_s`, and then is killed with all that it started.

    carrier: of the address, where the program has one.
    """

    def __init__(self, program: str, node: str, redirection: Redirection, carrier: Carrier | None) -> None:
        self._program = program
        self._node = node
        self._said = redirection
        self._carrier = carrier
        self._tokens = Tokens(program)
        self._claimed = False
        self._lock = asyncio.Lock()

    async def claim(self, token: int) -> None:
        """See `driver.Driver`."""
        async with self._lock:
            self._tokens.accept(token)
            if self._carrier is not None:
                ensure_carried(self._program, self._carrier)
            self._claimed = False
            await self._run("claim", self._said.claim, token)
            self._claimed = True

    async def release(self, token: int) -> None:
        """See `driver.Driver`."""
        async with self._lock:
            self._tokens.accept(token)
            self._claimed = False
            if self._carrier is not None:
                self._carrier.drop()
            await self._run("release", self._said.release, token)

    async def holds(self) -> bool:
        """See `driver.Driver`. Without a check: whether the last command was a claim, and succeeded."""
        if not self._claimed or (self._carrier is not None and not self._carrier.has()):
            return False
        if not self._said.check:
            return True
        async with self._lock:
            try:
                await self._run("check", self._said.check, self._tokens.newest)
            except RedirectError:
                return False
        return True

    async def close(self) -> None:
        """What was claimed stays so."""
        if self._carrier is not None:
            self._carrier.close()

    async def _run(self, action: Action, command: Sequence[str], token: int) -> None:
        """Raises RedirectError unless it ends with 0 in time."""
        name = f"{self._program}: {action} {command[0]}"
        environment = {
            "KAGEMUSHA_PROGRAM": self._program,
            "KAGEMUSHA_NODE": self._node,
            "KAGEMUSHA_ADDRESS": self._said.address,
            "KAGEMUSHA_TOKEN": str(token),
            "KAGEMUSHA_ACTION": action,
        }
        try:
            async with asyncio.timeout(self._said.timeout_s):
                trouble = await run(Exec(tuple(command)), environment)
        except TimeoutError:
            late = f"has not ended within {self._said.timeout_s * 1000:.0f} ms"
            raise RedirectError(f"{name}: {late}", hint="raise redirect.timeout_ms") from None
        if trouble:
            raise RedirectError(f"{name}: {trouble}")


def require_trusted(path: str, name: str) -> None:
    """Raise RedirectError for an executable that others than root could replace by another. name: for the error."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise RedirectError(f"{name}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
        raise RedirectError(f"{name}: is no executable file", hint=f"chmod +x {path}")
    if os.geteuid() == 0 and other_writer(found):
        raise RedirectError(
            f"{name}: others than root can write it, and root would run it",
            hint=f"chown root {path}; chmod go-w {path}",
        )
