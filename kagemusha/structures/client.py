"""Carries out what the dialogue decides: two threads beside the program, one for the socket, one for the structures.

The socket's thread never waits for the program: the other one takes changes, applies updates and runs the program's
functions, each where the structure's consistency allows it. `_mutex` keeps versions in the order in which they are
sent; it is taken last, after any lock of the program.
"""

from __future__ import annotations

import logging
import os
import platform
import queue
import selectors
import socket
import sys
import threading
import time
from typing import Any, Callable

from kagemusha.structures import dialogue as says
from kagemusha.structures.dialogue import MIRROR, PRIMARY, Dialogue
from kagemusha.structures.errors import NotCommitted, ProtocolError, Refused, StructuresError
from kagemusha.structures.frames import FrameReader, Message, pieces
from kagemusha.structures.member import Member, is_loaded, looked_up, may_be_loaded
from kagemusha.structures.outgoing import Outgoing
from kagemusha.structures.structure import Update
from kagemusha.structures.whole_copy import PIECE_ITEMS, Unsettled, WholeCopy

AGAIN_S = 1.0
"""How long to wait before the next attempt to reach the agent."""
COPYING_REST = 2.0
"""A large whole copy is packed piece by piece; after each the program has so many times as long for itself."""
LOADING_S = 10.0
"""How long a program has, after its agent's welcome, to import the modules whose objects are mirrored."""
SEND_BUFFER_BYTES = 1 << 20
_READ_BYTES = 1 << 18
LOG = logging.getLogger("kagemusha.structures")


class Client:
    """This program and its agent. `ready`: the first attempt to reach the agent has ended, in either way."""

    def __init__(self, path: str, program: str, role: str, *, change_role: Callable[[str], None]) -> None:
        """`change_role`: runs the program's functions for a new role, in the thread of the structures."""
        self.dialogue = Dialogue(program, role)
        self.members: dict[str, Member] = {}
        self.ready = threading.Event()
        self.interval_s = 0.1
        self._path = path
        self._change_role = change_role
        self._mutex = threading.RLock()
        self._news = threading.Condition()
        self._work: queue.Queue[says.Effect] = queue.Queue()
        self._outgoing = Outgoing()
        self._connection: socket.socket | None = None
        self._pen = threading.Lock()
        self._bell, self._clapper = socket.socketpair()
        self._bell.setblocking(False)
        self._clapper.setblocking(False)
        self._has_said_alone = False
        self._missing: dict[str, says.LookUp] = {}
        self._searched_until: dict[str, float] = {}

    def start(self) -> None:
        """Start both threads; they end with the process."""
        for target in (self._converse, self._labour):
            threading.Thread(target=target, name=f"kagemusha {target.__name__}", daemon=True).start()

    @property
    def is_connected(self) -> bool:
        """Whether the agent has welcomed this program on the connection that there is."""
        return self.dialogue.is_welcome

    # What the program asks for, in its threads.

    def add(self, member: Member) -> None:
        """Mirror one structure more."""
        with self._mutex:
            self.members[member.structure.name] = member
            self._perform(self.dialogue.declared(member.structure))

    def publish(self) -> dict[str, int]:
        """Take all changes now, in this thread, and send them; return the versions. Empty: nobody is there."""
        with self._mutex:
            if not self.is_connected or self.dialogue.role != PRIMARY:
                return {}
            members = list(self.members.values())
            for member in members:
                self._take(member, whole=False)
            return {member.structure.name: member.structure.version for member in members if self._is_mirrored(member)}

    def wait(self, versions: dict[str, int], timeout_s: float) -> int:
        """Wait until the mirrors have acknowledged these versions; return how many have. Raises NotCommitted."""

        def missing() -> list[str]:
            return [name for name, version in versions.items() if self._acknowledged(name) < version]

        with self._news:
            self._news.wait_for(lambda: not missing() or not versions.keys() <= self.members.keys(), timeout_s)
            late = missing()
            if late:
                raise NotCommitted(
                    f"not acknowledged by the mirrors within {timeout_s} s: {', '.join(late)}",
                    hint="what they hold is not known; commit() again, or refuse the request",
                )
            return min((self.members[name].mirrors for name in versions), default=0)

    def _acknowledged(self, name: str) -> int:
        member = self.members.get(name)
        return -1 if member is None else member.acknowledged

    def _is_mirrored(self, member: Member) -> bool:
        return self.members.get(member.structure.name) is member

    # The thread of the structures.

    def _labour(self) -> None:
        due = time.monotonic()
        while True:
            try:
                effect = self._work.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + self.interval_s
                self._tick()
                continue
            try:
                self._do(effect)
            except Exception:
                LOG.exception("%s could not be carried out", type(effect).__name__)

    def _tick(self) -> None:
        """An interval has passed: send what changed, unless what was sent before is still here."""
        for effect in list(self._missing.values()):
            self._look_up(effect)
        if not self.is_connected or self._outgoing or self.dialogue.role != PRIMARY:
            return
        for member in list(self.members.values()):
            if member.consistency.is_periodic:
                self._publish(member, whole=False)
        with self._mutex:
            versions = {name: member.structure.version for name, member in self.members.items()}
            self._send({"kind": "current", "versions": versions, "age_us": 0})

    def _publish(self, member: Member, *, whole: bool, at_once: bool = False) -> None:
        def take() -> None:
            with self._mutex:
                if self.is_connected and self.dialogue.role == PRIMARY and self._is_mirrored(member):
                    self._take(member, whole=whole, at_once=at_once)

        member.consistency.run(take)

    def _take(self, member: Member, *, whole: bool, at_once: bool = False) -> None:
        """Queue what changed of a structure, and begin a whole copy if one is asked for or needed (with the mutex).

        `at_once`: the whole copy that was begun before can't be made in pieces.
        """
        structure = member.structure
        begun = structure.graph.copy
        is_new = structure.state is None
        update: Update | None = None
        copy: WholeCopy | None = None
        try:
            member.check_path()
            if not is_new:
                update = structure.take()
            if at_once or (begun is None and (is_new or whole or structure.may_be_too_large)):
                copy = structure.begin_whole(sys.maxsize if at_once else PIECE_ITEMS)
        except StructuresError as error:
            self._withdraw(member, error)
            return
        except RuntimeError as error:  # it was changed meanwhile by another thread: the next one is a whole copy
            structure.lose()
            LOG.warning("structure %s was changed while it was read (%s); once more", structure.name, error)
            return
        member.taken(time.monotonic(), is_changed=is_new or update is not None)
        if update is not None and not (begun is not None and begun.is_new):
            self._outgoing.reserve().fill(pieces(update, 0))
            self._flush()
        if copy is not None and copy.is_packed:
            self._end_copy(member, copy)
        elif copy is not None:
            name = f"kagemusha copy of {structure.name}"
            threading.Thread(target=self._copy, args=(member, copy), name=name, daemon=True).start()

    def _copy(self, member: Member, copy: WholeCopy) -> None:
        """Pack a whole copy piece by piece and send it, in a thread of its own."""
        try:
            more = True
            while more and member.structure.graph.copy is copy:
                begun_s = time.thread_time()
                more = copy.step()
                time.sleep(COPYING_REST * (time.thread_time() - begun_s))
        except Unsettled:
            self._publish(member, whole=True, at_once=True)
        else:
            self._end_copy(member, copy)

    def _end_copy(self, member: Member, copy: WholeCopy) -> None:
        """Send a copy that is packed, in the order in which versions go."""
        structure = member.structure
        with self._mutex:
            if structure.graph.copy is not copy or not self._is_mirrored(member):
                return
            put_together = structure.end_whole()
            place = self._outgoing.reserve()
        try:
            place.fill(pieces(put_together(), 0))
        except StructuresError as error:
            place.fill(())
            with self._mutex:
                self._withdraw(member, error)
        self._flush()

    def _withdraw(self, member: Member, error: StructuresError) -> None:
        with self._news:
            self.members.pop(member.structure.name, None)
            self._news.notify_all()
        self._perform(self.dialogue.withdrawn(member.structure.name, error))

    def _do(self, effect: says.Effect) -> None:
        if isinstance(effect, says.Apply):
            self._apply(effect.update, effect.age_us)
        elif isinstance(effect, says.SendWhole):
            member = self.members.get(effect.structure)
            if member is not None:
                self._publish(member, whole=True)
        elif isinstance(effect, says.Begin):
            with self._mutex:
                self._perform(self.dialogue.begins(effect.structure))
        elif isinstance(effect, says.Become):
            self._become(effect)
        elif isinstance(effect, says.LookUp):
            self._look_up(effect)
        elif isinstance(effect, says.Current):
            with self._mutex:
                for name in self.dialogue.up_to_date(effect.versions):
                    self.members[name].applied(time.monotonic() - effect.age_us / 1e6)
                self._perform(self.dialogue.behind(effect.versions))

    def _apply(self, update: Update, age_us: int) -> None:
        member = self.members.get(update.structure)
        if member is None:
            return

        def apply() -> None:
            refused: Refused | None = None
            with self._mutex:
                if self.dialogue.role != MIRROR:
                    return
                try:
                    member.structure.apply(update)
                    member.applied(time.monotonic() - age_us / 1e6)
                except Refused as error:
                    refused = error
                self._perform(self.dialogue.applied(update, refused))

        member.consistency.run(apply)

    def _become(self, effect: says.Become) -> None:
        is_leaving = bool(effect.reply) and (self.dialogue.role, effect.role) == (PRIMARY, MIRROR)
        if is_leaving:
            # What the program's functions for it still change belongs to what the next primary gets.
            self._change_role(MIRROR)
            for member in list(self.members.values()):
                if member.consistency.is_periodic:
                    self._publish(member, whole=False)
        with self._mutex:
            former = self.dialogue.role
            told = former != effect.role and (self.dialogue.is_sure or bool(effect.reply))
            holds = self.dialogue.became(effect.role, effect.token)
            for member in self.members.values():
                member.start_anew()
            if self.dialogue.role != former:
                # Before the program's functions for it: what they change follows.
                self._perform(self.dialogue.goes_on())
        self.ready.set()
        if told and not is_leaving:
            self._change_role(effect.role)
        if effect.reply:
            self._send({"kind": effect.reply, "token": effect.token, "holds": holds})

    def _look_up(self, effect: says.LookUp) -> None:
        name, now = effect.structure, time.monotonic()
        has_time = now < self._searched_until.setdefault(name, now + LOADING_S)
        if has_time and not is_loaded(effect.path) and may_be_loaded(effect.path):
            self._missing[name] = effect
            return
        self._missing.pop(name, None)
        try:
            self.add(looked_up(effect.structure, effect.path, effect.limit_bytes))
        except StructuresError as error:
            with self._mutex:
                self._perform(self.dialogue.withdrawn(effect.structure, error))

    # The thread of the socket.

    def _converse(self) -> None:
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(self._path)
                    self._talk(connection)
                what = "the agent closed the connection"
            except (OSError, StructuresError) as error:
                what = str(error)
            with self._mutex:
                self.dialogue.is_welcome = False
                self._forget()
            if not self._has_said_alone:
                self._has_said_alone = True
                LOG.warning("no agent at %s (%s): running on alone, and trying again", self._path, what)
            self.ready.set()
            time.sleep(AGAIN_S)

    def _talk(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        reader = FrameReader()
        with self._mutex:
            self._forget()
            self._connection = connection
            self._send(self.dialogue.opened(os.getpid(), f"python {platform.python_version()}"))
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            selector.register(connection, selectors.EVENT_READ)
            while True:
                writing = selectors.EVENT_WRITE if self._outgoing.is_ready else 0
                selector.modify(connection, selectors.EVENT_READ | writing)
                for key, events in selector.select():
                    if key.fileobj is self._bell:
                        self._bell.recv(4096)
                        continue
                    if events & selectors.EVENT_WRITE:
                        with self._pen:
                            self._write(connection)
                    if events & selectors.EVENT_READ and not self._read(connection, reader):
                        return

    def _forget(self) -> None:
        """There is no connection any more."""
        with self._pen:
            self._connection = None
            self._outgoing.clear()

    def _write(self, connection: socket.socket) -> None:
        """Write as much as there is room for (with the pen)."""
        while frame := self._outgoing.first():
            try:
                self._outgoing.written(connection.send(frame))
            except BlockingIOError:
                return

    def _read(self, connection: socket.socket, reader: FrameReader) -> bool:
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        try:
            for message in reader.feed(data):
                with self._mutex:
                    self._perform(self.dialogue.received(message))
        except ProtocolError as error:
            with self._pen:  # Whoever has it, and what is queued, would be in the way: the connection ends now.
                self._outgoing.end_with(says.report(error, None))
                self._write(connection)
            raise
        if self.is_connected:
            self._has_said_alone = False
        return True

    # Both.

    def _perform(self, effects: list[says.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, says.Send):
                self._send(effect.message)
            elif isinstance(effect, says.Say):
                LOG.warning("%s%s", effect.what, f" (hint: {effect.hint})" if effect.hint else "")
            elif isinstance(effect, says.Pace):
                self.interval_s = effect.interval_ms / 1000
                if self.dialogue.heading == self.dialogue.role:
                    self.dialogue.is_sure = True
                    self.ready.set()
            elif isinstance(effect, says.Acknowledged):
                self._confirm(effect)
            else:
                self._work.put(effect)

    def _confirm(self, effect: says.Acknowledged) -> None:
        with self._news:
            if effect.structure in self.members:
                self.members[effect.structure].confirmed(effect.version, effect.mirrors)
            self._news.notify_all()

    def _send(self, message: Message) -> None:
        self._outgoing.add(message)
        self._flush()

    def _flush(self) -> None:
        """Write what there is room for, in this thread: to wake another one for it would cost the program more. The
        socket's thread writes the rest."""
        if self._pen.acquire(blocking=False):
            try:
                if self._connection is not None:
                    self._write(self._connection)
            except OSError:  # the socket's thread finds that out, too
                pass
            finally:
                self._pen.release()
            if not self._outgoing.is_ready:
                return
        try:
            self._clapper.send(b"\0")
        except BlockingIOError:  # it rings already
            pass

    def lag_s(self, name: str | None) -> dict[str, Any]:
        """Return the age of what is safe, in seconds, by structure; None: nothing is yet."""
        now = time.monotonic()
        members = [self.members[name]] if name is not None else list(self.members.values())
        return {member.structure.name: member.lag_s(now) for member in members}
