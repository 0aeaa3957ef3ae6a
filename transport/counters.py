"""What a receiver refused, by reason. Nothing is refused without being counted here. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why something from a peer was refused; the value is the name of its counter."""

    MALFORMED = "malformed"  # no frame, or a body that is not the message which its kind says
    OVERSIZED = "oversized"  # a body above the limit of its kind
    UNKNOWN_KIND = "unknown_kind"
    CORRUPT = "corrupt"  # a frame, a part or a history with another checksum than it carries
    STALE_TOKEN = "stale_token"  # a lower fencing token than the highest seen
    REPLAYED = "replayed"  # a sequence number that has been
    SKIPPED = "skipped"  # a sequence number ahead of the next
    WRONG_BASE = "wrong_base"  # a checkpoint that does not follow what is held
    INCOMPLETE = "incomplete"  # an end that does not fit what came before it
    UNEXPECTED = "unexpected"  # a message that has no place in the conversation now
    FAILED_APPLY = "failed_apply"  # verified, but it could not be staged or applied


@dataclass(slots=True)
class Counters:
    """How much was refused, by reason."""

    malformed: int = 0
    oversized: int = 0
    unknown_kind: int = 0
    corrupt: int = 0
    stale_token: int = 0
    replayed: int = 0
    skipped: int = 0
    wrong_base: int = 0
    incomplete: int = 0
    unexpected: int = 0
    failed_apply: int = 0

    def count(self, reason: Reason) -> None:
        """Add one to the counter of `reason`."""
        setattr(self, reason.value, getattr(self, reason.value) + 1)

    @property
    def total(self) -> int:
        return sum(self.by_reason().values())

    def by_reason(self) -> dict[str, int]:
        return asdict(self)
