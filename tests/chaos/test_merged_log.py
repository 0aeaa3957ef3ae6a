"""Logs of several nodes become one, by time."""

from __future__ import annotations

from tests.chaos.merged_log import merged


def test_lines_stand_where_their_times_put_them() -> None:
    logs = [
        ("a", 0.0, "2030-01-01T00:00:02.5Z second\nits second line\n2030-01-01T00:00:04Z fourth"),
        ("bb", 0.0, "event=first timestamp=2030-01-01T00:00:01.000000Z\nevent=third timestamp=2030-01-01T00:00:03Z"),
    ]
    words = ["first", "second", "its second line", "third", "fourth"]
    lines = merged(logs)
    assert all(word in line for word, line in zip(words, lines, strict=True)), lines
    assert lines[0].startswith("00:00:01.000000 bb ")
    assert lines[1].startswith("00:00:02.500000 a  ")


def test_a_log_without_times_stands_where_it_was_written() -> None:
    [first, second] = merged([("late", 2e9, "no time"), ("early", 0.0, "2030-01-01T00:00:00Z time")])
    assert first.endswith("time")
    assert second.endswith("no time")
