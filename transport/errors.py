"""The root of kagemusha's error hierarchy, and the errors of bytes and peers.

Every error is one line that names the thing and the place (`what`) and, where there is one, the remedy (`hint`).
"""

from __future__ import annotations


class KagemushaError(Exception):
    """Anything that kagemusha reports to a person.

    `what`: one line that names the operation, the thing and the place; `hint`: what to do about it, or "".
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class ConfigError(KagemushaError):
    """A configuration file can't be used as it stands."""


class PreflightError(KagemushaError):
    """Something of a program or a host can't be mirrored."""


class FrameError(KagemushaError):
    """Bytes from a peer are no valid frame or message; the connection must be closed."""


class CorruptUpdate(KagemushaError):
    """A checkpoint's base, content or result does not have the checksum that it carries."""


class StaleUpdate(KagemushaError):
    """An update carries a lower fencing token, or does not follow what is held."""


class PeerRefused(KagemushaError):
    """The other side is not who it must be, or does not accept us."""


class ControlError(KagemushaError):
    """A request on a control socket was refused or could not be carried out."""
