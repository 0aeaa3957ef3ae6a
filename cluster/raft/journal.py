"""The log of a member, and its term and vote, with the interface that pysyncobj expects of a journal.

pysyncobj's own file is a memory map: it is never synced, loses entries when it is killed in a compaction, and a full
disk kills the process. Here all that is asked is answered from memory, and what the files are to become is ordered from
the disk, in order; nothing in here waits for it. What is promised to others waits (`gate.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from pathlib import Path
from typing import Any, overload

from cluster.raft.disk import Disk, Work
from cluster.raft.journal_file import HEAD_BYTES, JOURNAL_MAGIC, JournalFile
from cluster.raft.storage import read_sealed
from cluster.raft.wire import Entry


class Journal:
    """Entries in `directory`/journal; term, vote and the last commit index in `directory`/vote.

    promised, term_promised: the last work of the disk that the log and the vote need, and that the term needs; until it
    is done, nobody may be told. Raises StorageError when the files are damaged. That they can't be written is told by
    the disk: then nothing that follows may be believed, and the member must stop.
    """

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._disk = disk
        self.promised = self.term_promised = disk.ordered
        vote_path = directory / "vote"
        vote = read_sealed(vote_path) or {"term": 0, "voted_for": None, "commit": 1}
        self._term: int = vote["term"]
        self._voted_for: str | None = vote["voted_for"]
        self._commit: int = vote["commit"]
        self._commit_kept = self._commit
        self._file = JournalFile(directory / "journal", vote_path)
        try:
            self._entries = self._file.read()
        except BaseException:
            self._file.close()
            raise
        disk.flush = self._file.sync
        self._works = [self.promised] * len(self._entries)
        """By entry, the work that makes it durable; it never falls."""
        self._measure()
        self._coming: list[Entry] = []
        self._append: Work | None = None
        self._vote: dict[str, Any] = {}
        self._keep: Work | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        return self._entries[place]

    @property
    def durable_index(self) -> int:
        """The highest index up to which all entries are durable; 0 when none is."""
        place = bisect_right(self._works, self._disk.durable)
        return self._entries[place - 1][1] if place else 0

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append an entry."""
        entry = command, index, term
        if self._append is not None and self._disk.is_last(self._append):
            self._coming.append(entry)
            self.promised = self._disk.joined()
        else:
            self._coming = [entry]
            self._append = partial(self._file.append, self._coming)
            self.promised = self._disk.order(self._append)
        self._entries.append(entry)
        self._works.append(self.promised)
        self._offsets.append(self._end)
        self._end += HEAD_BYTES + len(command)

    def clear(self) -> None:
        """Forget all entries."""
        self.deleteEntriesFrom(0)

    def deleteEntriesFrom(self, place: int) -> None:
        """Forget the entries from this place of the list on."""
        if place < len(self._entries):
            self._end = self._offsets[place]
            self.promised = self._disk.order(partial(self._file.cut, self._end))
            del self._entries[place:]
            del self._works[place:]
            del self._offsets[place:]

    def deleteEntriesTo(self, place: int) -> None:
        """Forget the entries before this place of the list. Killed in it, nothing is lost, so nobody waits for it."""
        if place <= 0:
            return
        del self._entries[:place]
        del self._works[:place]
        self._measure()
        self._disk.order(partial(self._file.replace, list(self._entries)))

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:
        """Keep term and vote."""
        self._term = term
        self._voted_for = voted_for
        self._keep_vote()
        self.promised = self.term_promised = self._disk.ordered

    def getCurrentTerm(self) -> int:
        return self._term

    def getVotedForNodeId(self) -> str | None:
        return self._voted_for

    def setRaftCommitIndex(self, index: int) -> None:
        """Note what is known as agreed; kept once a second, as no more than a start after a restart."""
        self._commit = index

    def getRaftCommitIndex(self) -> int:
        """Return the highest index that is known as agreed and that is in the journal."""
        return min(self._commit, self._entries[-1][1]) if self._entries else 1

    def onOneSecondTimer(self) -> None:
        """Keep the commit index, if it has changed."""
        if self._commit != self._commit_kept:
            self._keep_vote()

    def close(self) -> None:
        """Keep everything and let go of the file. Blocks. Raises StorageError."""
        try:
            self.onOneSecondTimer()
            self._disk.sync()
        finally:
            self._file.close()

    def _keep_vote(self) -> None:
        vote: dict[str, Any] = {"term": self._term, "voted_for": self._voted_for, "commit": self._commit}
        self._commit_kept = self._commit
        if self._keep is not None and self._disk.is_last(self._keep):
            self._vote.update(vote)
            self._disk.joined()
            return
        self._vote = vote
        self._keep = partial(self._file.keep_vote, vote)
        self._disk.order(self._keep)

    def _measure(self) -> None:
        self._offsets: list[int] = []
        self._end = len(JOURNAL_MAGIC)
        for command, _, _ in self._entries:
            self._offsets.append(self._end)
            self._end += HEAD_BYTES + len(command)
