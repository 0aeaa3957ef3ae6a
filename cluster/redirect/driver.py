"""What every driver can do, and what all of them refuse."""

from __future__ import annotations

from typing import Protocol

from transport.errors import KagemushaError


class RedirectError(KagemushaError):
    """Clients are not led to where they should be."""


class StaleToken(RedirectError):
    """An order of a primary that was replaced."""


class Silenced(RedirectError):
    """Whoever may stop the program has done so, and nobody is to be led to it."""


class Driver(Protocol):
    """Leads the clients of one program to this node, or away from it.

    All three are idempotent. token: under which the program serves, or served, here.
    """

    async def claim(self, token: int) -> None:
        """Lead clients here; returns when that is so. Raises RedirectError: it is not so, and may be tried again.
        StaleToken: a higher token is known."""

    async def release(self, token: int) -> None:
        """Lead clients here no more; returns when that is so. Raises RedirectError, and StaleToken as above."""

    async def holds(self) -> bool:
        """Whether clients are led here now."""

    async def close(self) -> None:
        """Let go of what this process holds; where clients are led to stays as it is, if it can."""


class Tokens:
    """The highest token that a driver has heard of, and whether it was claimed under that one."""

    def __init__(self, program: str) -> None:
        self.newest = 0
        self._program = program

    def accept(self, token: int) -> None:
        """Raise StaleToken for one that is lower than another before."""
        if token < self.newest:
            raise StaleToken(f"{self._program}: token {token} is late, {self.newest} is known")
        self.newest = token


class Carrier(Protocol):
    """An address on this node. In a takeover the program's agent puts it there, in its own order, before any driver."""

    def put(self) -> None:
        """Have it here. Idempotent. Raises KagemushaError."""

    def drop(self) -> None:
        """Have it here no more. Idempotent. Raises KagemushaError."""

    def has(self) -> bool:
        """Whether it is here. Raises KagemushaError."""

    def close(self) -> None:
        """Leave it as it is."""
