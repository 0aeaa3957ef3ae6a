"""Mirror named data structures of a Python program to its warm mirrors.

    from kagemusha import structures

    BOOK = structures.mirror("book", structures.Dict())

    @structures.on_promote
    def serve():
        ...

`mirror` returns what it is given, which stays where it is. `Dict`, `List`, `Deque`, `Set` and dataclasses under
`@structures.tracked` report their changes, so that an interval costs what was changed in it; plain containers are
compared at each interval, numpy arrays and bytearrays block by block. When changes are taken: on the event loop in
which `mirror` or `start` was called, under `lock`, or else where the program calls `commit` (and waits for the mirrors)
or `publish` (and does not).

Without an agent the program says so once, and runs on as the primary. Needs Python 3.9 and msgpack.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import sys
import threading
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Callable, TypeVar

from kagemusha.structures.client import Client
from kagemusha.structures.consistency import Explicit, Locked, OnLoop
from kagemusha.structures.deques import Deque
from kagemusha.structures.dialogue import MIRROR, PRIMARY
from kagemusha.structures.dicts import Dict
from kagemusha.structures.errors import (
    NameTaken,
    NotCommitted,
    NotEncodable,
    PathError,
    StructuresError,
    TooLarge,
)
from kagemusha.structures.lists import List
from kagemusha.structures.member import TYPES, Consistency, Member
from kagemusha.structures.objects import tracked_class as tracked
from kagemusha.structures.sets import Set
from kagemusha.structures.structure import LIMIT_BYTES, Structure
from kagemusha.structures.values import OwnType, class_name

__all__ = [
    "Deque",
    "Dict",
    "List",
    "NameTaken",
    "NotCommitted",
    "NotEncodable",
    "PathError",
    "Set",
    "StructuresError",
    "TooLarge",
    "commit",
    "commit_async",
    "is_connected",
    "lag",
    "mirror",
    "on_demote",
    "on_promote",
    "publish",
    "register",
    "role",
    "start",
    "tracked",
]

Mirrored = TypeVar("Mirrored")
Hook = TypeVar("Hook", bound=Callable[[], Any])

_FIRST_ANSWER_S = 2.0
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_LOG = logging.getLogger("kagemusha.structures")


class _Program:
    """This process: its client once it was started, and its functions for a new role."""

    def __init__(self) -> None:
        self.hooks: dict[str, list[Callable[[], Any]]] = {PRIMARY: [], MIRROR: []}
        self.client: Client | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    def started(self) -> Client:
        """Return the client, which is started at the first call."""
        with self._starting:
            if self.client is None:
                path = os.environ.get("KAGEMUSHA_SOCKET", "")
                name = os.environ.get("KAGEMUSHA_PROGRAM") or os.path.basename(sys.argv[0] or "python")
                role = os.environ.get("KAGEMUSHA_ROLE", PRIMARY)
                self.client = Client(path, name, role, change_role=self.change_role)
                self.client.dialogue.is_sure = "KAGEMUSHA_ROLE" in os.environ
                if path:
                    self.client.start()
                else:
                    self.client.ready.set()
                    _LOG.warning("KAGEMUSHA_SOCKET is not set: there is no agent, the program runs alone")
        return self.client

    def bind_running_loop(self) -> None:
        """Remember the event loop of the calling thread, if there is one."""
        loop = running_loop()
        if loop is not None:
            self.loop = loop

    def change_role(self, role: str) -> None:
        """Run the functions for a role, on the program's loop if it has one; after one that fails the next runs."""
        for hook in self.hooks[role]:
            try:
                self._call(hook)
            except Exception:
                _LOG.exception("%s failed", getattr(hook, "__qualname__", hook))

    def _call(self, hook: Callable[[], Any]) -> None:
        loop = self.loop if self.loop is not None and not self.loop.is_closed() else None
        if inspect.iscoroutinefunction(hook):
            if loop is None:
                asyncio.run(hook())
            else:
                asyncio.run_coroutine_threadsafe(hook(), loop).result()
        elif loop is None:
            hook()
        else:
            OnLoop(loop).run(hook)

    def forget(self) -> None:
        """A child of fork: the connection is its parent's."""
        self.client = None
        self._starting = threading.Lock()


_PROGRAM = _Program()
os.register_at_fork(after_in_child=_PROGRAM.forget)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def start() -> None:
    """Connect to the agent now. In a coroutine: structures that were mirrored without a lock are taken on its loop."""
    _PROGRAM.bind_running_loop()
    client = _PROGRAM.started()
    if _PROGRAM.loop is not None:
        for member in list(client.members.values()):
            if isinstance(member.consistency, Explicit):
                member.consistency = OnLoop(_PROGRAM.loop)


def mirror(
    name: str, value: Mirrored, *, lock: AbstractContextManager[Any] | None = None, limit_bytes: int = LIMIT_BYTES
) -> Mirrored:
    """Mirror an object under a name, and return it.

    `lock`: held by whoever changes the object; changes are taken, and copies written, only with it. `limit_bytes`: most
    bytes of the whole object as it travels. Raises NotEncodable, NameTaken, or ValueError for a name that is none.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a structure: a-z, 0-9, '_', '.', '-', at most 63")
    _PROGRAM.bind_running_loop()
    client = _PROGRAM.started()
    known = client.members.get(name)
    if known is not None:
        if known.structure.graph.root is value:
            return value
        raise NameTaken(f"there is a structure {name} already, of another object")
    consistency: Consistency = Explicit()
    if lock is not None:
        consistency = Locked(lock)
    elif _PROGRAM.loop is not None:
        consistency = OnLoop(_PROGRAM.loop)
    client.add(Member(Structure(name, value, TYPES, limit_bytes=limit_bytes), consistency))
    return value


def role() -> str:
    """Return "primary" or "mirror". A mirror must not serve, nor change what is mirrored.

    Waits up to two seconds for the agent's first answer, unless KAGEMUSHA_ROLE is set.
    """
    client = _PROGRAM.started()
    if not client.dialogue.is_sure:
        client.ready.wait(_FIRST_ANSWER_S)
    # Who is told to leave must not begin anything more, though it is not a mirror before all was sent.
    return MIRROR if client.dialogue.heading == MIRROR else client.dialogue.role


def is_connected() -> bool:
    """Whether there is an agent."""
    return _PROGRAM.started().is_connected


def on_promote(hook: Hook) -> Hook:
    """Call a function, or await a coroutine function, when this mirror has become the primary (a decorator).

    The structures have their last content then. It is not called in a program that is the primary from the start.
    """
    _PROGRAM.hooks[PRIMARY].append(hook)
    return hook


def on_demote(hook: Hook) -> Hook:
    """Call a function, or await a coroutine function, when this primary has become a mirror (a decorator)."""
    _PROGRAM.hooks[MIRROR].append(hook)
    return hook


def lag(name: str | None = None) -> float | None:
    """Return how old the newest content is that both sides have, in seconds: what a takeover now would lose at most.

    Of one structure (KeyError if there is none), or the oldest of all. None: there is none yet, or no agent.
    """
    ages = list(_PROGRAM.started().lag_s(name).values())
    return None if not ages or None in ages else max(ages)


def publish() -> Callable[[float], int]:
    """Take all changes now, in this thread, and send them. Return a function that waits for them as commit() does."""
    client = _PROGRAM.started()
    client.ready.wait(_FIRST_ANSWER_S)
    return partial(client.wait, client.publish())


def commit(timeout_s: float = 10.0) -> int:
    """Take all changes now, and return when the mirrors have them: how many have. 0: no mirror counts, or no agent.

    Call it where the structures are consistent: holding their lock, or where no other thread changes them. Raises
    NotCommitted when the mirrors have not acknowledged in time, StructuresError on an event loop (see commit_async).
    """
    if running_loop() is not None:
        raise StructuresError("commit() would stop the event loop", hint="await structures.commit_async()")
    return publish()(timeout_s)


async def commit_async(timeout_s: float = 10.0) -> int:
    """Do what commit() does, in a coroutine: changes are taken before it first waits."""
    client = _PROGRAM.started()
    loop = asyncio.get_running_loop()
    if not client.ready.is_set():
        await loop.run_in_executor(None, client.ready.wait, _FIRST_ANSWER_S)
    return await loop.run_in_executor(None, client.wait, client.publish(), timeout_s)


def register(
    cls: type,
    *,
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
    name: str | None = None,
    immutable: bool = False,
) -> None:
    """Teach the library a type: `encode` gives a value that it knows, `decode` makes the object of it, on the mirror.

    `immutable`: such objects never change; others are encoded again at each interval, and compared.
    """
    TYPES.register(OwnType(name or class_name(cls), cls, encode, decode, immutable))
