"""What keeps a command from being applied, and small changes of entries. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NoReturn

from cluster.registry.commands import RejectCode, Rejected
from cluster.registry.values import Fence, InstanceEntry, NodeId, Policy, ProgramEntry
from transport.control import InstanceStatus

TEXT_CHARS_MAX: Final = 512


class Refusal(Exception):
    """A command is not applied; `result` says why."""

    def __init__(self, result: Rejected) -> None:
        super().__init__(result.reason)
        self.result = result


def refuse(code: RejectCode, reason: str, hint: str = "") -> NoReturn:
    """Raise the refusal of a command, which becomes its result."""
    raise Refusal(Rejected(code, short(reason), short(hint)))


def short(text: str) -> str:
    """A text that fits into a result."""
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"


def instance_of(entry: ProgramEntry, instance: str) -> InstanceEntry:
    """The instance of that id. Raises Refusal: there is none."""
    found: Sequence[InstanceEntry] = [one for one in entry.instances if one.instance == instance]
    if not found:
        refuse("unknown", f"{entry.program_id} has no instance {instance!r}")
    return found[0]


def with_instance(entry: ProgramEntry, new: InstanceEntry) -> ProgramEntry:
    """The program, with this instance in place of the one of its id."""
    return replace(entry, instances=tuple(new if one.instance == new.instance else one for one in entry.instances))


def with_status(entry: ProgramEntry, node: NodeId, status: InstanceStatus, reason: str) -> ProgramEntry:
    """The program, with another status of the instance on this node; there may be none."""
    one = entry.instance_on(node)
    return entry if one is None else with_instance(entry, replace(one, status=status, reason=reason))


def expect_token(entry: ProgramEntry, token: int) -> None:
    """Raise Refusal unless the token is that of the present primary."""
    if token != entry.token:
        refuse("stale", f"the token of {entry.program_id} is {entry.token}, not {token}")


def expect_fence(entry: ProgramEntry, fence_id: str) -> Fence:
    """The fence of that id, which stands. Raises Refusal where it does not."""
    if entry.fence is None or entry.fence.fence_id != fence_id or entry.fence.token != entry.token:
        refuse("fence", f"no fence {fence_id!r} of {entry.program_id} stands under token {entry.token}")
    return entry.fence


def shared_with(programs: Iterable[ProgramEntry], policy: Policy) -> Rejected | None:
    """Why a program with this policy can't be beside these: one of them has what only one can have."""
    for other in programs:
        for one in policy.exclusive:
            if one in other.policy.exclusive:
                return Rejected(
                    "exists", f"program {other.program_id} has {one} already", "two programs can't share it"
                )
    return None
