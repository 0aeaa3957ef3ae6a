"""`keepalived`: the agent moves the address, and keepalived carries it from then on; Raft decides who has it.

Claim: the address first (by the agent, with its announcements), then the track file's 1, upon which keepalived finds
the address where it would put it, and announces it once more. Release: the 0 first, then the address: keepalived puts
an address that it carries back within milliseconds. Always both: with the 0 alone it would stay where keepalived hangs.

keepalived that is not there, killed or hung changes nothing for clients: the address is where the agent put it.
keepalived that starts takes the address away for a moment; whoever looks after the claim (`guide`) puts it back.
"""

from __future__ import annotations

from cluster.redirect.address import ensure_carried
from cluster.redirect.driver import Carrier, Tokens
from transport.track_file import TrackFile


class KeepalivedDriver:
    """See `driver.Driver`."""

    def __init__(self, program: str, carrier: Carrier, track: TrackFile) -> None:
        self._tokens = Tokens(program)
        self._program = program
        self._carrier = carrier
        self._track = track

    async def claim(self, token: int) -> None:
        """See `driver.Driver`."""
        self._tokens.accept(token)
        ensure_carried(self._program, self._carrier)
        if not self._track.allows():
            self._track.allow()

    async def release(self, token: int) -> None:
        """See `driver.Driver`."""
        self._tokens.accept(token)
        try:
            self._track.forbid()
        finally:
            self._carrier.drop()

    async def holds(self) -> bool:
        """See `driver.Driver`."""
        return self._carrier.has() and self._track.allows()

    async def close(self) -> None:
        """The address stays where it is, and with whom."""
        self._carrier.close()
