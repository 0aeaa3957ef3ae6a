"""Logs go to the journal with their fields, or to stderr as lines; how much, can be changed while everything runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from transport import log_level
from transport.errors import KagemushaError
from transport.journal import Journal, is_stderr
from transport.log_level import LogLevel
from transport.logs import fields_of, without_secrets

SCRIPT = """
import os, sys
from pathlib import Path
from transport import logs
from transport.log_level import LogLevel
import structlog
logs.configure(LogLevel(Path(sys.argv[1])), node="a", **({"inherited": True} if "inherited" in sys.argv else {}))
log = structlog.get_logger()
log.debug("too small")
log.info("it serves", instance="redis@a", token=7, pid=12, why="a b")
log.warning("kgm_0123456789abcdef was shown", reason="kgm_0123456789abcdef")
try:
    1 / 0
except ZeroDivisionError as error:
    log.error("a mistake", exc_info=error)
"""


def test_a_line_that_can_not_be_written_is_lost_and_nothing_else(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], stderr=full, check=False)
    assert ended.returncode == 0


class Reader:
    """A journal: it takes datagrams."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(5)

    def entry(self) -> dict[str, str]:
        """The next entry."""
        data, found = self._socket.recv(1 << 20), {}
        while data:
            line, _, data = data.partition(b"\n")
            name, sign, value = line.partition(b"=")
            if not sign:
                length = int.from_bytes(data[:8], "little")
                value, data = data[8 : 8 + length], data[9 + length :]
            found[name.decode()] = value.decode()
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    one = Reader(tmp_path / "journal")
    yield one
    one.close()


def logged(run: Path, *words: str, **environment: str) -> list[str]:
    """What a process logs to its stderr."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAGEMUSHA_", "JOURNAL_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(run), *words],
        env={**kept, **environment},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


def test_an_entry_has_its_fields(reader: Reader) -> None:
    journal = Journal("kagemusha", reader.path)
    assert journal.send("two\nlines", "warning", {"KAGEMUSHA_NODE": "a"})
    assert reader.entry() == {
        "MESSAGE": "two\nlines",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "kagemusha",
        "KAGEMUSHA_NODE": "a",
    }
    journal.close()


def test_nobody_waits_for_a_journal_that_is_full_and_the_next_entry_says_what_was_lost(reader: Reader) -> None:
    journal = Journal("kagemusha", reader.path)
    sent, begun_s = 0, time.monotonic()
    while journal.send("x" * 1000, "info", {}):
        sent += 1
    assert not journal.send("more", "info", {})
    assert time.monotonic() - begun_s < 5
    assert journal.lost == 2
    for _ in range(sent):
        reader.entry()
    assert journal.send("again", "info", {})
    assert reader.entry()["KAGEMUSHA_LOST"] == "2"
    journal.close()


def test_whether_stderr_is_the_journal() -> None:
    found = os.fstat(2)
    assert is_stderr({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert not is_stderr({"JOURNAL_STREAM": "8:1"})
    assert not is_stderr({})


def test_fields_to_be_asked_for() -> None:
    assert fields_of({"instance": "redis@b", "token": 7, "took": 3}) == {
        "KAGEMUSHA_INSTANCE": "redis@b",
        "KAGEMUSHA_TOKEN": "7",
        "KAGEMUSHA_PROGRAM": "redis",
        "KAGEMUSHA_NODE": "b",
    }
    assert fields_of({"program": "web", "node": "a"}) == {"KAGEMUSHA_PROGRAM": "web", "KAGEMUSHA_NODE": "a"}


def test_lines_without_a_journal(tmp_path: Path) -> None:
    lines = logged(tmp_path)
    assert "too small" not in "".join(lines)
    assert 'event="it serves"' in lines[0]
    assert "instance=redis@a token=7 pid=12" in lines[0]
    assert "ZeroDivisionError" in lines[2]
    assert "kgm_" not in "".join(lines)


def test_json_where_it_is_asked_for(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in logged(tmp_path, KAGEMUSHA_LOG="json")]
    assert (lines[0]["event"], lines[0]["level"], lines[0]["node"], lines[0]["token"]) == ("it serves", "info", "a", 7)
    assert lines[1]["event"] == "(secret) was shown"


def test_a_level_holds_for_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(log_level, "boottime_s", lambda: now_s)
    daemon, agent = LogLevel(tmp_path), LogLevel(tmp_path)
    assert agent.now() == ("info", 0.0)
    daemon.set("debug", 60)
    assert agent.now() == ("debug", 60.0)
    assert agent.admits("debug")
    daemon.set("error", 30)
    assert not agent.admits("warning")
    assert agent.admits("error")
    assert agent.admits("exception")
    now_s += 30.5
    assert agent.now() == ("info", 0.0)
    assert agent.admits("warning")
    assert not agent.admits("debug")


def test_a_level_counts_at_once_in_another_process(tmp_path: Path) -> None:
    LogLevel(tmp_path).set("debug", 60)
    assert any("too small" in line for line in logged(tmp_path))
    LogLevel(tmp_path).set("error", 60)
    assert len([line for line in logged(tmp_path) if "event=" in line]) == 1


@pytest.mark.parametrize("text", ["", "loud 9999999999", "debug", "debug soon", "\xff"])
def test_a_file_that_is_none_means_the_default(tmp_path: Path, text: str) -> None:
    (tmp_path / "log-level").write_text(text, encoding="latin-1")
    assert LogLevel(tmp_path).now() == ("info", 0.0)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KagemushaError, match="can't be written: No such file or directory"):
        LogLevel(tmp_path / "none").set("debug", 1)


def test_what_looks_like_a_secret_is_taken_out() -> None:
    event = {"event": "x", "reason": "token kgm_abcdefgh123 is wrong", "count": 3}
    assert without_secrets(None, "info", dict(event)) == {"event": "x", "reason": "token (secret) is wrong", "count": 3}
