"""The checksum of what travels (docs/structures-protocol.md)."""

from __future__ import annotations

import hashlib


def digest(*pieces: bytes) -> bytes:
    """Return the 8 bytes of it for the pieces, one after the other."""
    checksum = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        checksum.update(piece)
    return checksum.digest()
