"""How a client speaks to each of the two programs: what it asks when it has connected, and what an update is (pure)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from kagemusha.demo.errors import DemoError

Ask = Callable[[str], Awaitable[str]]
"""Sends one line, and gives the line that answers it."""

SURE_EVERY = 10
"""Of the updates of an exchange's client so many are one that must be safe before it is answered."""


class Dialect(Protocol):
    """One client of one program."""

    async def begin(self, ask: Ask) -> int:
        """What to do on a new connection; how many updates of this client the program holds. DemoError: nonsense."""

    async def audit(self, ask: Ask) -> None:
        """Have the program look through all that it holds. DemoError: it does not fit together."""

    def update(self, number: int) -> str:
        """The line of update `number`."""

    def judge(self, number: int, answer: str) -> bool:
        """Whether update `number` is safe for certain. DemoError for what is no answer; EOFError for one that tells
        the client to ask how many updates there are."""


class Trader:
    """A client of the exchange: buys and sells in turns."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def begin(self, ask: Ask) -> int:
        """See Dialect. The exchange counts the orders of each account."""
        return _number(await ask(f"ACCOUNT {self._name}"), 1)

    async def audit(self, ask: Ask) -> None:
        """See Dialect."""
        if not (answer := await ask("CHECK")).startswith("OK "):
            raise DemoError(f"the exchange's book does not balance: {answer}")

    def update(self, number: int) -> str:
        """See Dialect."""
        verb = "BUY" if number % 2 else "SELL"
        return f"{verb} {self._name} 100 {1 + number % 7}{' SURE' if number % SURE_EVERY == 0 else ''}"

    def judge(self, number: int, answer: str) -> bool:
        """See Dialect."""
        _number(answer, 1)
        return answer.endswith(" SURE")


class User:
    """A client of the session service: keeps one session, and changes what is in it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._session: int | None = None

    async def begin(self, ask: Ask) -> int:
        """See Dialect. The service counts the changes of each session; a lost session is opened anew."""
        if self._session is not None:
            words = (await ask(f"GET {self._session}")).split()
            if words[:2] == ["OK", self._name]:
                return self._changes(words)
        self._session = _number(await ask(f"OPEN {self._name}"), 1)
        return 0

    async def audit(self, ask: Ask) -> None:
        """See Dialect. Each client has looked at its own session."""

    def _changes(self, words: list[str]) -> int:
        count, value = int(words[2]), words[3] if len(words) > 3 else "v0"
        # An instant may lie between the two assignments of one change.
        if value not in (f"v{count}", f"v{count + 1}"):
            raise DemoError(f"the session of {self._name} has {count} changes, and holds {value}")
        return count

    def update(self, number: int) -> str:
        """See Dialect."""
        return f"PUT {self._session} v{number}"

    def judge(self, number: int, answer: str) -> bool:
        """See Dialect. An update that was not waited for any more may have come in between."""
        if _number(answer, 1) != number:
            raise EOFError
        return False


def _number(answer: str, at: int) -> int:
    """The number at a place of a good answer."""
    words = answer.split()
    if words[:1] != ["OK"] or len(words) <= at or not words[at].isdecimal():
        raise DemoError(f"{answer[:80]!r} is no good answer")
    return int(words[at])
