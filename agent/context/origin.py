"""Where a context comes from: kernel, processor, definition and the files that are mapped, as a record.

A mirror compares it with its own node before it builds a shadow: on another kernel, processor or version of a library
the program would crash only after the takeover, or worse.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from agent.context.layout import Area
from agent.preflight.fingerprint import Fingerprint, differences, fingerprint
from transport.checkpoint import Records
from transport.errors import PreflightError

KEY: Final = "origin"


class OriginCapture:
    """Keeps the record of one program; a file is read again only when a mapping of another one has come."""

    def __init__(self, program: str, definition: str) -> None:
        """`program`: its id; `definition`: digest of its program.toml."""
        self._program = program
        self._definition = definition
        self._found: Fingerprint | None = None
        self._areas: Sequence[Area] = ()
        self._record = b""

    def capture(self, areas: Sequence[Area], xstate_bytes: int) -> Records:
        """The record; `xstate_bytes`: the size of a thread's extended registers.

        No more than a comparison, unless files have come or gone. Raises PreflightError where a file can't be read.
        """
        if areas is not self._areas or self._found is None:
            self._areas = areas
            self._update(_files(areas), xstate_bytes)
        return {KEY: self._record}

    def _update(self, files: frozenset[str], xstate_bytes: int) -> None:
        found = self._found
        if found is None:
            found = fingerprint(self._program, self._definition, xstate_bytes, ())
        known = {path: digest for path, digest in found.files.items() if path in files}
        fresh = files - known.keys()
        if fresh or len(known) != len(found.files) or self._found is None:
            more = fingerprint(self._program, self._definition, found.xstate_bytes, fresh).files if fresh else {}
            self._found = replace(found, files={**known, **more})
            self._record = self._found.to_json().encode()


def require_same_origin(records: Records, program: str, definition: str) -> None:
    """Raise PreflightError, naming the first difference and its remedy, unless this node is like the context's own.

    program, definition: this node's own id and digest of the program.toml.
    """
    if KEY not in records:
        raise PreflightError("the context does not say where it comes from", hint="run the same version on both nodes")
    theirs = Fingerprint.from_json(records[KEY].decode(), "the primary's context")
    missing = [path for path in theirs.files if not os.path.exists(path)]
    if missing:
        raise PreflightError(
            f"{missing[0]} is used by the program, but is not on this node", hint="install its package"
        )
    ours = fingerprint(program, definition, theirs.xstate_bytes, theirs.files)
    found = differences(ours, theirs)
    if found:
        more = f" (and {len(found) - 1} more differences)" if len(found) > 1 else ""
        raise PreflightError(f"this node can't mirror {program}: {found[0].what}{more}", hint=found[0].remedy)


def _files(areas: Iterable[Area]) -> frozenset[str]:
    return frozenset(area.path for area in areas if area.kind == "file" and not area.deleted)
