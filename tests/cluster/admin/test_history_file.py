"""What a node remembers of its events over a restart."""

from __future__ import annotations

from pathlib import Path

from cluster.admin.history_file import KEPT_MAX, LINES_MAX, HistoryFile
from tests.cluster.admin.fake_cluster import event


def test_events_come_back(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "history.jsonl")
    assert file.load() == []
    for index in (1, 5, 7):
        file.append(event(index))
    assert HistoryFile(tmp_path / "history.jsonl").load() == [event(1), event(5), event(7)]


def test_a_torn_line_costs_that_event_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    file.append(event(1))
    with path.open("ab") as stream:
        stream.write(b'{"index": 2, "at')
    again = HistoryFile(path)
    assert again.load() == [event(1)]
    again.append(event(3))
    assert HistoryFile(path).load() == [event(1), event(3)]


def test_it_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    for index in range(1, LINES_MAX + 2):
        file.append(event(index))
    assert len(path.read_bytes().splitlines()) == KEPT_MAX
    assert HistoryFile(path).load()[-1] == event(LINES_MAX + 1)


def test_a_disk_that_can_not_be_written_to_costs_the_history_alone(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "none" / "history.jsonl")
    assert file.load() == []
    file.append(event(1))


def test_what_the_disk_did_not_take_is_written_when_it_takes_something_again(tmp_path: Path) -> None:
    directory = tmp_path / "away"
    file = HistoryFile(directory / "history.jsonl")
    file.append(event(1))
    file.append(event(2))
    directory.mkdir()
    file.append(event(3))
    assert HistoryFile(directory / "history.jsonl").load() == [event(1), event(2), event(3)]


def test_a_file_that_could_not_be_read_is_not_replaced(tmp_path: Path) -> None:
    path, aside = tmp_path / "history.jsonl", tmp_path / "aside"
    HistoryFile(path).append(event(1))
    path.rename(aside)
    path.mkdir()  # Not even root can read that as a file, or append to it.
    file = HistoryFile(path)
    assert file.load() == []
    file.append(event(2))
    path.rmdir()
    aside.rename(path)
    file.append(event(3))
    assert HistoryFile(path).load() == [event(1), event(3)]
