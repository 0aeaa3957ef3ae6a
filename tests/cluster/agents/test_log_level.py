"""A node that is told to log more does so, and its agents with it: they look where the daemon writes."""

from __future__ import annotations

from pathlib import Path

from cluster.agents.place import Place
from cluster.node.messages import Done
from cluster.node.questions import SetLogLevel
from tests.cluster.agents.household import Home
from tests.cluster.cluster_of import configs
from transport.log_level import LogLevel


async def test_daemon_and_agents_look_at_the_same_file(tmp_path: Path) -> None:
    home = Home(configs(tmp_path)["a"])
    await home.start()
    try:
        assert await home.supervisor.carry_out(SetLogLevel("debug", 60)) == Done()
        # As `agent.runner` does, by its control socket.
        level, left_s = LogLevel(Place(home.config, "counter").control.parent).now()
        assert level == "debug"
        assert 0 < left_s <= 60.001  # The file has milliseconds.
    finally:
        await home.stop()
