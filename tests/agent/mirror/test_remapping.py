"""The rows by which one layout becomes another."""

from __future__ import annotations

from agent.context.layout import Advise, Area, Map, Protect, Unmap
from agent.mirror.batch import Batch
from agent.mirror.fdtable import DescriptorTable
from agent.mirror.remapping import Remapping, object_id

_PAGE = 4096


def _file(first_page: int, path: str, *, shared: bool = False, flags: tuple[str, ...] = ()) -> Area:
    start = (1 << 32) + first_page * _PAGE
    return Area(start, start + _PAGE, 1, shared, "file", path, first_page * _PAGE, "08:01", 7, _PAGE, flags=flags)


def _names(*changes: Map | Unmap | Protect | Advise) -> list[str]:
    batch = Batch()
    Remapping(DescriptorTable(100)).add(batch, changes)
    return [name.replace("0x10000", "") for name in batch.names]


def test_neighbours_from_one_file_share_its_descriptor() -> None:
    assert _names(Map(_file(0, "/a")), Map(_file(1, "/a")), Map(_file(2, "/b"))) == [
        "open of /a",
        "mmap 0000 of /a",
        "mmap 1000 of /a",
        "close of /a",
        "open of /b",
        "mmap 2000 of /b",
        "close of /b",
    ]


def test_a_file_that_may_become_writable_is_opened_anew_for_it() -> None:
    assert _names(Map(_file(0, "/a")), Map(_file(1, "/a", shared=True, flags=("mw",)))) == [
        "open of /a",
        "mmap 0000 of /a",
        "close of /a",
        "open of /a",
        "mmap 1000 of /a",
        "close of /a",
    ]


def test_a_deleted_file_needs_no_file() -> None:
    start = 1 << 32
    area = Area(start, start + _PAGE, 1, False, "file", "/gone", 0, "08:01", 7, _PAGE, deleted=True)
    assert _names(Map(area)) == ["mmap 0000 of /gone"]


def test_memory_goes_changes_and_is_advised() -> None:
    start = 1 << 32
    assert _names(
        Unmap(start, start + _PAGE),
        Protect(start, start + _PAGE, 0),
        Advise(start, start + _PAGE, ("dd", "lo"), ("hg", "wf")),
        Advise(start, start + _PAGE, ("hg",), ("lo",)),
    ) == [
        "munmap 0000",
        "mprotect 0000",
        "madvise hg of 0000",
        "madvise wf of 0000",
        "madvise not dd of 0000",
        "munlock of 0000",
        "mlock of 0000",
    ]


def test_a_device_is_read_as_it_is_printed() -> None:
    area = Area(0, _PAGE, 1, True, "object", "/memfd:x", 0, "fd:1a", 99)
    assert object_id(area) == ((0xFD << 8) | 0x1A, 99)
