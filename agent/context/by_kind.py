"""Which records are of which kind of descriptor."""

from __future__ import annotations

from transport.checkpoint import Records


def records_of_kind(records: Records, kind: str) -> list[tuple[int, bytes]]:
    """Lowest number and record of all descriptions of a kind; see `agent.context.descriptors` for the keys."""
    start = f"ofd/{kind}:"
    return [(int(key[len(start) :]), data) for key, data in records.items() if key.startswith(start)]
