"""What this library reports to people: one line that says what and where, and a hint.

The rest of kagemusha has its own hierarchy; this one imports nothing of it, so that programs bring nothing else along.
"""

from __future__ import annotations


class StructuresError(Exception):
    """Anything that the library reports. `code`: the word for it in docs/structures-protocol.md.

    `what`: one line that names the structure and the place; `hint`: what to do about it, or "".
    """

    code = "error"

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(f"{what} (hint: {hint})" if hint else what)
        self.what = what
        self.hint = hint


class NotEncodable(StructuresError):
    """A value that can't travel: says which, and where in the structure it lies."""

    code = "not-encodable"


class TooLarge(StructuresError):
    """A structure is above its size limit."""

    code = "too-large"


class PathError(StructuresError):
    """A Python path that can't be imported, or whose name is bound to another object by now."""

    code = "path"


class NameTaken(StructuresError):
    """Two objects were to be mirrored under one name, or one object under two."""

    code = "name-taken"


class NotCommitted(StructuresError):
    """commit() was given up before the mirrors had acknowledged; what they hold is not known."""

    code = "not-committed"


class ProtocolError(StructuresError):
    """Bytes from the agent are no message of the protocol; the connection ends."""

    code = "protocol"


class Refused(StructuresError):
    """An update or a whole copy is not applied. `code` says why; the copy is as it was."""

    def __init__(self, code: str, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.code = code
