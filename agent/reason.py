"""Why something of a program or of a host can't be mirrored, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Reason:
    """One thing that stands in the way.

    what: what it is, as a person knows it ("io_uring instance").
    where: the place, named so that it can be found ("descriptor 7 of process 4711", "/etc/ssl/openssl.cnf").
    remedy: what to do about it ("start the program with --no-io-uring"), or "" where nothing helps yet.
    lost: it does not stand in the way of mirroring, but a takeover loses it.
    """

    what: str
    where: str
    remedy: str = ""
    lost: bool = False

    def __str__(self) -> str:
        """The reason in one line, without the remedy."""
        return f"{self.where}: {self.what}"
