"""Records become descriptors in a blank shadow: what a node has, or has differently, decides what comes of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.context import content, descriptors
from agent.context.deleted import DeletedFile
from agent.context.eventfd import Eventfd
from agent.context.files import File
from agent.context.pipes import Pipe, PipeEnd
from agent.context.record import pack
from agent.context.shared_files import SharedFile
from agent.context.table import Number
from agent.context.unix import Unix
from agent.errors import RestoreError
from agent.kernel.pidfd import get_descriptor
from agent.mirror.shadow import Shadow
from transport.checkpoint import Records


def records_of(*found: tuple[str, object, Sequence[int]]) -> Records:
    """Records of descriptions: kind, record, numbers."""
    records: Records = {}
    for kind, record, numbers in found:
        key = f"{kind}:{min(numbers)}"
        records[f"ofd/{key}"] = pack(record)  # type: ignore[arg-type]
        for number in numbers:
            records[f"fd/{number}"] = pack(Number(key, cloexec=number % 2 == 1))
    return records


def restored(shadow: Shadow, records: Records) -> None:
    descriptors.prepare(shadow, records)
    batch = shadow.batch()
    descriptors.activate(shadow, records, batch)
    batch.run()
    open_now = {int(name) for name in os.listdir(f"/proc/{shadow.pid}/fd")}
    program = {int(key[3:]) for key in records if key.startswith("fd/")}
    assert {number for number in open_now if number < shadow.table.floor} == program
    assert open_now == shadow.table.used


def info(shadow: Shadow, number: int) -> dict[str, str]:
    text = Path(f"/proc/{shadow.pid}/fdinfo/{number}").read_text()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def flags(shadow: Shadow, number: int) -> int:
    return int(info(shadow, number)["flags"], 8)


def link(shadow: Shadow, number: int) -> str:
    return os.readlink(f"/proc/{shadow.pid}/fd/{number}")


def test_a_local_file_that_is_missing_is_made(blank: Shadow, tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    record = File(path, "local", os.O_WRONLY | os.O_APPEND, 1000, ())
    restored(blank, records_of(("file", record, [1, 2])))
    assert link(blank, 1) == link(blank, 2) == path
    assert info(blank, 1)["pos"] == "0"
    assert flags(blank, 1) & os.O_APPEND
    assert bool(flags(blank, 1) & os.O_CLOEXEC)
    assert not flags(blank, 2) & os.O_CLOEXEC


@pytest.mark.parametrize(("treatment", "position", "size"), [("local", 5, 5), ("discard", 0, 0)])
def test_a_nodes_own_file_is_taken_as_it_is(
    treatment: str, position: int, size: int, blank: Shadow, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("short")
    restored(blank, records_of(("file", File(str(path), treatment, os.O_RDWR, 1000, ()), [7])))
    assert info(blank, 7)["pos"] == str(position)
    assert path.stat().st_size == size


def shared(path: Path, *, flags: int = os.O_WRONLY) -> SharedFile:
    status = path.stat()
    return SharedFile(str(path), flags, 3, status.st_size, status.st_mtime_ns, ())


def test_a_shared_file_that_did_not_change_is_opened_where_it_was(blank: Shadow, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    restored(blank, records_of(("shared-file", shared(path), [4])))
    assert info(blank, 4)["pos"] == "3"


def test_what_was_appended_to_a_shared_file_since_is_cut_off(blank: Shadow, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    record = shared(path, flags=os.O_WRONLY | os.O_APPEND)
    path.write_text("content and more")
    restored(blank, records_of(("shared-file", record, [4])))
    assert path.read_text() == "content"


@pytest.mark.parametrize(("flags", "now"), [(os.O_RDWR, "changed"), (os.O_WRONLY | os.O_APPEND, "less")])
def test_a_shared_file_that_changed_otherwise_refuses_the_takeover(
    flags: int, now: str, blank: Shadow, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    records = records_of(("shared-file", shared(path, flags=flags), [4]))
    path.write_text(now)
    descriptors.prepare(blank, records)  # the program still runs and writes to it: no reason to complain
    with pytest.raises(RestoreError, match="changed after the checkpoint") as refused:
        descriptors.activate(blank, records, blank.batch())
    assert refused.value.hint


def test_what_a_node_lacks_is_said_ahead(blank: Shadow, tmp_path: Path) -> None:
    missing = str(tmp_path / "not" / "there")
    for record in (File(missing, "plain", 0, 0, ()), File(missing, "local", os.O_WRONLY, 0, ())):
        with pytest.raises(RestoreError, match=str(tmp_path / "not")):
            descriptors.prepare(blank, records_of(("file", record, [3])))


def test_a_pipe_without_its_other_end_ends(blank: Shadow) -> None:
    records = records_of(("pipe", PipeEnd("pipe/5", os.O_RDONLY | os.O_NONBLOCK), [9]))
    records["pipe/5"] = pack(Pipe(False, 65536, (b"last words",)))
    restored(blank, records)
    with open(f"/proc/{blank.pid}/fd/9", "rb", buffering=0) as end:
        assert end.read(100) == b"last words"
        assert end.read(100) == b""
    assert flags(blank, 9) & os.O_NONBLOCK


def test_a_pipe_goes_crosswise_over_the_numbers_that_it_is_born_with(blank: Shadow) -> None:
    records = records_of(
        ("pipe", PipeEnd("pipe/5", os.O_WRONLY), [0]),
        ("pipe", PipeEnd("pipe/5", os.O_RDONLY), [1]),
        ("eventfd", Eventfd(True, False, 3), [2, 300, 301]),
    )
    records["pipe/5"] = pack(Pipe(False, 65536, ()))
    restored(blank, records)
    assert link(blank, 0) == link(blank, 1)
    assert (flags(blank, 0) & os.O_ACCMODE, flags(blank, 1) & os.O_ACCMODE) == (os.O_WRONLY, os.O_RDONLY)
    assert info(blank, 301)["eventfd-id"] == info(blank, 2)["eventfd-id"]


def test_a_connection_to_somebody_outside_ends(blank: Shadow) -> None:
    record = Unix(1, "pair", True, b"", b"/run/somebody", "", "", 0, 0, 0, 0, 0, (), (b"queued",))
    restored(blank, records_of(("unix", record, [3, 4])))
    pidfd = os.pidfd_open(blank.pid)
    try:
        with socket.socket(fileno=get_descriptor(pidfd, 3)) as end:
            assert end.recv(100) == b"queued"
            assert end.recv(100) == b""
    finally:
        os.close(pidfd)


def test_a_nameless_file_is_made_where_it_was_or_elsewhere(blank: Shadow, tmp_path: Path) -> None:
    for directory, number in ((str(tmp_path), 5), ("/not/there", 6)):
        record = DeletedFile(f"{directory}/gone", os.O_RDWR, 0o600, 77, (8, 1234 + number, 300_000, 1, 1))
        stamp = content.Stamp(*record.stamp)
        records = records_of(("deleted-file", record, [number]))
        records[f"{stamp.prefix}1"] = b"z" * content.PIECE_BYTES
        batch = blank.batch()
        descriptors.activate(blank, records, batch)
        batch.run()
        assert link(blank, number).startswith(str(tmp_path) if number == 5 else "/tmp/")
        assert info(blank, number)["pos"] == "77"
        data = Path(f"/proc/{blank.pid}/fd/{number}").read_bytes()
        assert len(data) == 300_000
        assert data[: content.PIECE_BYTES] == bytes(content.PIECE_BYTES)
        assert data[content.PIECE_BYTES] == ord("z")


def test_a_number_without_its_description_is_refused(blank: Shadow) -> None:
    with pytest.raises(RestoreError, match="descriptor 3"):
        descriptors.prepare(blank, {"fd/3": pack(Number("file:3", False))})


def test_a_kind_that_is_not_known_is_refused(blank: Shadow) -> None:
    records = {"fd/3": pack(Number("hologram:3", False)), "ofd/hologram:3": b"\x90"}
    with pytest.raises(RestoreError, match="hologram:3"):
        descriptors.prepare(blank, records)


def test_a_rehearsal_leaves_no_trace(blank: Shadow, tmp_path: Path) -> None:
    record = File(str(tmp_path / "log"), "local", os.O_WRONLY, 0, ())
    before = set(blank.table.used)
    descriptors.prepare(blank, records_of(("file", record, [1])))
    assert blank.table.used == before
    assert not (tmp_path / "log").exists()
