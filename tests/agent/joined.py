"""A primary's stream and one mirror of it joined by queues: the production encoder, publication, session, follower.

The program is a dictionary of pages and one of records; the mirror's shadow is a dictionary, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.kernel.vm import Contents
from agent.memory.image import Image
from agent.memory.page_ranges import Pages
from agent.mirror.follower import Follower
from agent.mirror.staging import Staging
from agent.primary.encoding import Encoder, Part
from agent.primary.publication import Publication
from transport.checkpoint import NOTHING, PAGE_WORDS, Records, Version
from transport.errors import PreflightError
from transport.messages import Ack, Bye, Refuse, StreamMessage, Subscribe
from transport.pubsub import Acked, Gone, PublisherEvent, Refused, Subscribed
from transport.session import Connected, Disconnected, MirrorSession

PAGES_MAX = 4096
PROGRAM = "joined"


@dataclass
class Program:
    """What is mirrored: a word for each page (the page is filled with it), and records."""

    pages: dict[int, int] = field(default_factory=dict)
    records: Records = field(default_factory=lambda: {"layout": b"first"})
    dirty: set[int] = field(default_factory=set)

    def write(self, page: int, word: int) -> None:
        """The program writes."""
        self.pages[page] = word
        self.dirty.add(page)

    def parts(self, image: Image, number: int) -> Iterable[Part]:
        """See `encoding.CapturedMemory`; the image is brought up to date."""
        pages = np.array(sorted(self.dirty), np.uint64)
        self.dirty.clear()
        if not len(pages):
            return
        slots = image.slots(pages)
        fresh = ~image.known[slots]
        base = np.zeros((len(pages), PAGE_WORDS), np.uint64)
        image.take(slots, base)
        base[fresh] = 0
        new = np.repeat(np.array([self.pages[int(page)] for page in pages], np.uint64)[:, None], PAGE_WORDS, 1)
        image.put(slots, new, number)
        yield pages, base, new, fresh


class Notebook:
    """A shadow that is a dictionary. `applied` is filled by `prepare`, the end of every application."""

    pid = 0

    def __init__(self, records: Records) -> None:
        self.pages: dict[int, int] = {}
        self.adapted = [records["layout"]]
        self.destroyed = False
        self.fails = False

    def adapt(self, records: Records) -> None:
        """See `follower.Double`."""
        self.adapted.append(records["layout"])

    def prepare(self, records: Records) -> None:
        """See `follower.Double`."""

    def read_pages(self, pages: Pages, out: Contents) -> None:
        """See `follower.Double`."""
        for row, page in enumerate(pages.tolist()):
            out[row] = self.pages.get(page, 0)

    def write_pages(self, pages: Pages, contents: Contents) -> None:
        """See `follower.Double`."""
        for page, content in zip(pages.tolist(), contents, strict=True):
            assert (content == content[0]).all()
            self.pages[page] = int(content[0])

    def destroy(self) -> None:
        """See `follower.Double`."""
        self.destroyed = True


class Joined:
    """Both ends. Nothing moves but by `to_mirror` and `to_primary`; `connect` and `cut` as a network would."""

    def __init__(self, token: int = 1, start: Version = NOTHING) -> None:
        self.program = Program()
        self.encoder = Encoder(PROGRAM, token, Image(PAGES_MAX * 4096), "zstd", start)
        if start != NOTHING:
            self.encoder.history.seed(start.number, self.program.records)
        self.publication = Publication(self.encoder, () if start == NOTHING else (start,), self)
        self.session = MirrorSession(PROGRAM, token)
        self.follower = Follower(
            self.session,
            "joined@b",
            1,
            PROGRAM,
            Staging(PAGES_MAX),
            self.make_double,
            self,
            lambda header: None,
            self.hopeless,
        )
        self.outbound: deque[tuple[StreamMessage, bool]] = deque()
        self.inbound: deque[StreamMessage] = deque()
        self.subscriber = 0
        self.connected = False
        self.published: dict[Version, tuple[dict[int, int], Records]] = {}
        self.hung_up: list[str] = []
        self.doubles: list[Notebook] = []
        self.final = False

    def make_double(self, records: Records) -> Notebook:
        """A blank shadow."""
        self.doubles.append(Notebook(records))
        return self.doubles[-1]

    def checkpoint(self, *, final: bool = False) -> Version:
        """The primary takes one and publishes it."""
        encoded = self.encoder.delta(self.program, self.program.records, captured_ns=1, final=final)
        self.published[encoded.header.version] = dict(self.program.pages), dict(self.program.records)
        self.publication.captured(encoded)
        return encoded.header.version

    def connect(self) -> None:
        """A new connection."""
        self.cut()
        self.subscriber += 1
        self.connected = True
        self.follower.event(Connected(1))

    def cut(self) -> None:
        """The connection ends; what was under way is lost."""
        if self.connected:
            self.connected = False
            self.outbound.clear()
            self.inbound.clear()
            self.publication.event(Gone(self.subscriber))
            self.follower.event(Disconnected())

    def to_mirror(self) -> bool:
        """One message travels to the mirror; False when there is none."""
        if not self.outbound:
            return False
        message, more = self.outbound.popleft()
        if isinstance(message, Bye):
            self.cut()
            return True
        self.follower.event(message)
        if more and self.connected:
            self.publication.more(self.subscriber)
        return True

    def to_primary(self) -> bool:
        """One message travels to the primary; False when there is none."""
        if not self.inbound:
            return False
        event: PublisherEvent
        match self.inbound.popleft():
            case Subscribe(program, instance, incarnation, holds):
                event = Subscribed(self.subscriber, program, instance, incarnation, holds, self.session.token)
            case Ack(version):
                event = Acked(self.subscriber, version)
            case Refuse(holds, reason):
                event = Refused(self.subscriber, holds, reason)
            case message:
                raise AssertionError(message)
        self.publication.event(event)
        return True

    def settle(self) -> None:
        """Everything that is under way arrives."""
        while self.to_primary() or self.to_mirror():
            pass

    def check(self) -> None:
        """What the mirror holds is what was published under that version, and nothing else."""
        held = self.follower.version
        if held == NOTHING:
            return
        pages, records = self.published[held]
        double = self.follower.double
        assert isinstance(double, Notebook)
        assert {page: word for page, word in double.pages.items() if word} == {p: w for p, w in pages.items() if w}
        assert self.follower.held.records == records
        assert double.adapted[-1] == records["layout"]

    # Outgoing and Outlet

    def send(self, message: StreamMessage) -> None:
        """See `follower.Outgoing`."""
        self.inbound.append(message)

    def hopeless(self, error: PreflightError) -> None:
        """This node can't be a mirror."""
        raise error

    def hang_up(self, reason: str) -> None:
        """See `follower.Outgoing`."""
        self.hung_up.append(reason)
        self.cut()

    def deliver(self, subscriber: int, messages: Sequence[StreamMessage], *, more: bool) -> None:
        """See `publication.Outlet`."""
        if subscriber == self.subscriber and self.connected:
            last = len(messages) - 1
            self.outbound.extend((message, more and place == last) for place, message in enumerate(messages))

    def drop(self, subscriber: int, reason: str) -> None:
        """See `publication.Outlet`."""
        if subscriber == self.subscriber and self.connected:
            self.outbound.append((Bye(reason), False))
