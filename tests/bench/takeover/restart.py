"""A restart from nothing, as a peer: a supervisor starts the program on the other node as soon as it has died, and
moves the address. No mirror, no state."""

from __future__ import annotations

from kagemusha.demo.display import Display
from kagemusha.demo.nodes import Directory, Machines, new_run_id
from kagemusha.demo.pair import agents
from kagemusha.demo.pair.scenario import PairScenario
from kagemusha.demo.report import Report, Takeover
from kagemusha.demo.story import Story
from tests.bench.takeover.peer import PeerKind
from tests.bench.takeover.row import One
from tests.bench.takeover.stage import Load

NAME = "restart from nothing"
_PLAIN_AGENT = ("-m", "tests.kagemusha.demo.pair.plain_agent")


class _Loaded(PairScenario):
    """The story with clients that write as much as those of all others that are compared."""

    per_second = 0

    async def _set_load(self, of_per_second: float, of_what: str) -> None:
        await super()._set_load(self.per_second / self._story.load_share or of_per_second, of_what)


async def play(story: Story, display: Display, per_second: int = 0) -> Report:
    """The whole story of two nodes, on machines of its own; nothing is left of them. Raises as the scenario does.

    per_second: writes during the takeovers; 0: as the story has it.
    """
    directory = Directory(new_run_id())
    try:
        machines = Machines(directory)
        scenario = _Loaded(story, display, machines)
        scenario.per_second = per_second
        try:
            return await scenario.play()
        finally:
            machines.close()
            await scenario.close()
    finally:
        directory.close(keep=False)


async def restarts(display: Display, load: Load, runs: int) -> dict[PeerKind, list[One]]:
    """So many of a killed program, and one of a killed node."""
    kept, agents.COMMAND = agents.COMMAND, _PLAIN_AGENT
    try:
        story = Story(load.memory_mib, rounds=runs, idle=load.idle, busy=load.busy, anew=load.anew)
        report = await play(story, display, load.per_second)
    finally:
        agents.COMMAND = kept
    kinds: tuple[PeerKind, ...] = ("process_killed", "node_killed")
    return {kind: [_one(one) for one in report.takeovers if one.kind == kind] for kind in kinds}


def _one(takeover: Takeover) -> One:
    return One(
        gap_ms=takeover.gap_ms,
        gaps_ms=takeover.gaps_ms,
        overlaps=None,
        lost=takeover.writes_lost,
        reset=takeover.connections_reset,
        hung=takeover.connections_hung,
    )
