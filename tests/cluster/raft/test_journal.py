"""The journal on a real disk: what a crash leaves is read back or refused, never guessed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.raft.disk import Disk
from cluster.raft.errors import StorageError
from cluster.raft.journal import Journal
from cluster.raft.journal_file import JOURNAL_MAGIC

ENTRIES = [(b"\x01", 1, 0), (b"\x00one", 2, 1), (b"\x00two", 3, 1), (b"\x00three", 4, 2)]


def _filled(directory: Path) -> Journal:
    journal = Journal(directory, Disk())
    for entry in ENTRIES:
        journal.add(*entry)
    return journal


def _again(directory: Path) -> list[tuple[bytes, int, int]]:
    journal = Journal(directory, Disk())
    try:
        return journal[:]
    finally:
        journal.close()


def test_entries_term_vote_and_commit_come_back(tmp_path: Path) -> None:
    journal = _filled(tmp_path)
    journal.setCurrentTerm(7, "b")
    journal.setRaftCommitIndex(3)
    journal.close()
    again = Journal(tmp_path, Disk())
    assert again[:] == ENTRIES
    assert (again.getCurrentTerm(), again.getVotedForNodeId(), again.getRaftCommitIndex()) == (7, "b", 3)
    again.close()


def test_term_and_vote_are_there_without_a_close(tmp_path: Path) -> None:
    journal = _filled(tmp_path)
    journal.setCurrentTerm(7, None)
    journal._disk.sync()
    other = Journal(tmp_path, Disk())
    assert (other.getCurrentTerm(), other.getVotedForNodeId()) == (7, None)
    other.close()
    journal.close()


def test_the_commit_index_is_never_beyond_the_entries(tmp_path: Path) -> None:
    journal = _filled(tmp_path)
    journal.setRaftCommitIndex(4)
    journal.close()
    cut = Journal(tmp_path, Disk())
    cut.deleteEntriesFrom(2)
    assert cut.getRaftCommitIndex() == 2
    cut.close()


def test_a_cut_at_the_end_is_kept(tmp_path: Path) -> None:
    journal = _filled(tmp_path)
    journal.deleteEntriesFrom(2)
    journal.add(b"\x00other", 3, 3)
    journal.close()
    assert _again(tmp_path) == [*ENTRIES[:2], (b"\x00other", 3, 3)]


def test_a_cut_at_the_beginning_is_kept_and_goes_on(tmp_path: Path) -> None:
    journal = _filled(tmp_path)
    journal.deleteEntriesTo(2)
    journal.add(b"\x00four", 5, 2)
    journal.close()
    assert _again(tmp_path) == [*ENTRIES[2:], (b"\x00four", 5, 2)]


@pytest.mark.parametrize("lost", [1, 5, 20, 28])
def test_a_last_record_that_was_cut_short_is_dropped(tmp_path: Path, lost: int) -> None:
    _filled(tmp_path).close()
    path = tmp_path / "journal"
    os.truncate(path, path.stat().st_size - lost)
    assert _again(tmp_path) == ENTRIES[:3]
    assert _again(tmp_path) == ENTRIES[:3]


def test_a_file_that_grew_without_its_bytes_is_cut(tmp_path: Path) -> None:
    _filled(tmp_path).close()
    path = tmp_path / "journal"
    os.truncate(path, path.stat().st_size + 4096)
    assert _again(tmp_path) == ENTRIES


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    _filled(tmp_path).close()
    path = tmp_path / "journal"
    raw = path.read_bytes()
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x40]) + raw[place + 1 :])
        try:
            entries = _again(tmp_path)
        except StorageError:
            continue
        # A damaged length may look like a record that was cut short: then it is the end.
        assert entries == ENTRIES[: len(entries)]
        assert len(entries) < len(ENTRIES)


def test_a_damaged_vote_is_refused(tmp_path: Path) -> None:
    journal = _filled(tmp_path)
    journal.setCurrentTerm(7, "b")
    journal.close()
    (tmp_path / "vote").write_bytes(b"")
    with pytest.raises(StorageError, match="is damaged"):
        Journal(tmp_path, Disk())


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"something else")
    with pytest.raises(StorageError, match="is no journal"):
        Journal(tmp_path, Disk())


def test_a_gap_between_entries_is_refused(tmp_path: Path) -> None:
    journal = _filled(tmp_path)
    journal.add(b"\x00gap", 6, 2)
    journal.close()
    with pytest.raises(StorageError, match="entry 6 follows entry 4"):
        Journal(tmp_path, Disk())


def test_a_full_disk_is_an_error_of_one_line(tmp_path: Path) -> None:
    journal = _filled(tmp_path)
    journal._disk.sync()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file.descriptor)
    os.close(full)
    journal.add(b"\x00more", 5, 2)
    with pytest.raises(StorageError, match="No space left on device"):
        journal.close()
    assert _again(tmp_path) == ENTRIES


def test_a_compaction_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """What a kill in the middle can leave: the new file under its own name, whole or not; it is written anew."""
    _filled(tmp_path).close()
    (tmp_path / "journal.new").write_bytes(JOURNAL_MAGIC + b"half a rec")
    journal = Journal(tmp_path, Disk())
    assert journal[:] == ENTRIES
    journal.deleteEntriesTo(1)
    journal.close()
    assert _again(tmp_path) == ENTRIES[1:]
