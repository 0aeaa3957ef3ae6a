"""Memory with a descriptor: memfd_create(2), and shm_open(3), which becomes a memfd and so loses its name.

What the program has mapped shared is mirrored with its memory; a shadow holds one memfd for each such object, and the
descriptions are opened from that. What is not mapped is carried as content (`agent.context.content`).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from dataclasses import dataclass

from agent.context import content
from agent.context.kind import Depends, Restore, Walk, refuse, text
from agent.context.look import Look
from agent.context.record import pack, unpack
from agent.kernel.libc import NR
from agent.mirror.remapping import object_id
from agent.reason import Reason

_LABEL, _POSIX, _SUFFIX = "/memfd:", "/dev/shm/", " (deleted)"
_MFD_ALLOW_SEALING = 2
_F_SETFL = 4
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_F_SEAL_WRITE = 8
_MAP_FIXED = 0x10
_HUGETLB_MAGIC_BLOCK_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Memfd:
    """label: the name given to memfd_create(2). seals: of F_GET_SEALS. mapped: its byte ranges that are mapped shared.

    stamp: the fields of `agent.context.content.Stamp`.
    """

    label: str
    flags: int
    seals: int
    position: int
    stamp: tuple[int, int, int, int, int]
    mapped: tuple[tuple[int, int], ...]


class MemfdKind:
    """A memfd is made anew, or taken from the shadow's mappings, and sealed at the end."""

    name = "memfd"
    depends: Depends = "content"

    def owns(self, look: Look, walk: Walk) -> bool:
        """Whether the label says so: no path on a disk begins like this and has been deleted."""
        if look.link.startswith(_POSIX):
            return stat.S_ISREG(os.stat(walk.path(look.number)).st_mode)
        return look.link.startswith(_LABEL) and look.link.endswith(_SUFFIX)

    def capture(self, look: Look, walk: Walk) -> bytes:
        """Content of what is not mapped is read again only if it may have changed."""
        status = os.stat(walk.path(look.number))
        stamp = content.Stamp.of(status)
        mapped = walk.mapped_shared(status)
        for reason in _refusals(status, mapped, walk.where(look.number)):
            raise refuse(reason)
        with walk.duplicate(look.number) as descriptor:
            seals = fcntl.fcntl(descriptor, _F_GET_SEALS) if look.link.startswith(_LABEL) else 0
        label = os.path.basename(look.link.removeprefix(_LABEL).removesuffix(_SUFFIX))
        record = Memfd(label, look.flags, seals, look.position, stamp.fields(), mapped)
        before = walk.previous.get("ofd/" + walk.keys[look.number])
        if before is not None and _same_content(unpack(Memfd, before), record):
            walk.extra.update(content.unchanged(walk.previous, stamp))
        else:
            walk.extra.update(content.capture(walk.path(look.number), stamp, mapped))
        return pack(record)

    def reasons(self, look: Look, walk: Walk) -> list[Reason]:
        """Huge pages; too much that is not mapped."""
        status = os.stat(walk.path(look.number))
        found = _refusals(status, walk.mapped_shared(status), walk.where(look.number))
        if look.link.startswith(_POSIX) and not look.link.endswith(_SUFFIX):
            what = f"the name {look.link}; after a takeover nobody else finds this shared memory by it"
            found.append(Reason(what, walk.where(look.number), lost=True))
        return found

    def make_ahead(self, key: str, data: bytes, restore: Restore) -> None:
        """Have the memory itself, at a spare number, with what is not mirrored with the mappings."""
        record = unpack(Memfd, data, key)
        stamp = content.Stamp(*record.stamp)
        identity = (stamp.device, stamp.inode)
        if identity in restore.inner_files:
            return
        spare = restore.shared_memory(*identity)
        if spare is not None:
            restore.inner_files[identity] = spare
        else:
            batch = restore.new_batch()
            row = batch.add(NR.MEMFD_CREATE, text(record.label), _MFD_ALLOW_SEALING, name=f"memfd_create of {key}")
            spare = restore.table.park(batch, row)
            batch.run()
            restore.keep_until_end(identity, spare)
        content.write(restore.own_path(spare), stamp, restore.records, record.mapped)

    def restore(self, key: str, data: bytes, restore: Restore) -> None:
        """Every description is opened anew from the one at the spare number."""
        record = unpack(Memfd, data, key)
        identity = record.stamp[:2]
        inner = restore.inner_file(identity)
        row = restore.batch.add(
            NR.OPEN, text(f"/proc/self/fd/{inner}"), record.flags & os.O_ACCMODE, 0, name=f"open of {key}"
        )
        number = restore.place(key, row)
        if record.flags & (os.O_APPEND | os.O_NONBLOCK):
            restore.batch.add(NR.FCNTL, number, _F_SETFL, record.flags, name=f"flags of {key}")
        if record.position:
            restore.batch.add(NR.LSEEK, number, record.position, os.SEEK_SET, name=f"offset of {key}")
        if record.seals and identity not in restore.sealed:
            restore.sealed.add(identity)
            _seal(record, inner, key, restore)


def _seal(record: Memfd, inner: int, key: str, restore: Restore) -> None:
    """Set the seals; a memfd that was made without MFD_ALLOW_SEALING has one seal: that against more.

    The shadow's mappings could still be made writable, which the seal against writing does not bear: they are taken
    away and come back after it.
    """
    batch = restore.batch
    areas = [area for area in restore.layout if area.kind == "object" and object_id(area) == record.stamp[:2]]
    lifted = areas if record.seals & _F_SEAL_WRITE else []
    for area in lifted:
        batch.add(NR.MUNMAP, area.start, area.end - area.start, name=f"munmap of {key}")
    batch.add(NR.FCNTL, inner, _F_ADD_SEALS, record.seals, name=f"seals of {key}")
    for area in lifted:
        flags = mmap.MAP_SHARED | _MAP_FIXED
        size = area.end - area.start
        batch.add(
            NR.MMAP,
            area.start,
            size,
            area.protection,
            flags,
            inner,
            area.offset,
            name=f"mmap of {key}",
            expect=area.start,
        )


def _same_content(old: Memfd, new: Memfd) -> bool:
    return old.stamp == new.stamp and old.mapped == new.mapped


def _refusals(status: os.stat_result, mapped: tuple[tuple[int, int], ...], where: str) -> list[Reason]:
    if status.st_blksize >= _HUGETLB_MAGIC_BLOCK_BYTES:
        return [Reason("a memfd of huge pages", where, "start the program without MFD_HUGETLB")]
    covered = sum(high - low for low, high in mapped)
    if covered >= status.st_size:
        return []
    return content.too_large(status, "a memfd that is not mapped as a whole", where, covered)
