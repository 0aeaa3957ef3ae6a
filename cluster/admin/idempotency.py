"""A request that is sent again has the effect and the answer of once: the Idempotency-Key header.

The key becomes the id of the command in the registry, which every node remembers; here are the whole answers, so that a
repetition gets exactly the first one. See the IETF draft "The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from cluster.admin.problem import INVALID, KEY_IN_USE, KEY_REUSED, ApiError

KEYS_MAX: Final = 1024
HEADER: Final = "Idempotency-Key"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer. body: JSON."""

    status: int
    body: bytes
    location: str = ""


@dataclass(slots=True)
class _Known:
    content: bytes
    answer: Answered | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request. request_id: for the registry. answer: the first time's, if this is a repetition. key: with which any
    node gives it the same request_id."""

    request_id: str
    entry: str
    answer: Answered | None = None
    key: str = ""


class Idempotency:
    """The keys of late, each of one bearer's own, with what was asked and answered."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._keys_max = keys_max

    def begin(self, bearer: str, key: str | None, method: str, path: str, body: bytes) -> Ticket:
        """Take in a request. Raises ApiError when its key is no key, in use, or was used for something else."""
        if key is None:
            key = str(uuid.uuid4())
            return Ticket(f"api-{_entry(bearer, key)}", "", key=key)
        if not _KEY.fullmatch(key):
            raise ApiError(INVALID, f"the {HEADER} is no key", hint="1 to 128 visible characters, a UUID say")
        entry = _entry(bearer, key)
        content = hashlib.sha256(b"\0".join((method.encode(), path.encode(), body))).digest()
        known = self._known.get(entry)
        if known is None:
            self._forget_oldest()
            self._known[entry] = _Known(content)
            return Ticket(f"api-{entry}", entry, key=key)
        if known.content != content:
            raise ApiError(KEY_REUSED, f"the {HEADER} belongs to another request", hint="every request needs its own")
        if known.answer is None:
            raise ApiError(KEY_IN_USE, f"the first request with this {HEADER} is still under way", hint="wait")
        return Ticket(f"api-{entry}", entry, known.answer, key)

    def end(self, ticket: Ticket, answer: Answered | None) -> None:
        """It was answered. None: what went wrong may go right the next time, so it is not remembered."""
        if not ticket.entry:
            return
        if answer is None:
            self._known.pop(ticket.entry, None)
        elif ticket.entry in self._known:
            self._known[ticket.entry].answer = answer

    def _forget_oldest(self) -> None:
        """Requests under way stay: they end."""
        if len(self._known) < self._keys_max:
            return
        for entry, known in list(self._known.items()):
            if known.answer is not None:
                del self._known[entry]
                return


def _entry(bearer: str, key: str) -> str:
    return hashlib.sha256(f"{bearer}\0{key}".encode()).hexdigest()
