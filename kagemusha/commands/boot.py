"""`kagemusha before-shutdown` and `after-boot`: what kagemusha-drain.service calls, so that clients see no more of a
planned boot than a switchover."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from kagemusha.commands.cluster_access import client, note
from kagemusha.commands.maintenance import empty
from kagemusha.exit_codes import ClusterRefused

if TYPE_CHECKING:
    from cluster.config import NodeConfig
    from kagemusha.client import AsyncClient

MARK: Final = "drained-for-boot"
"""In the node's data directory: the drain is that of a shutdown, and ends with the boot."""
SHUTDOWN_S: Final = 25.0
"""For so long a shutdown is kept waiting; less than TimeoutStopSec of the unit."""
AGAIN_S: Final = 1.0
_LATER: Final = ("unreachable", "no-leader", "no-quorum", "overloaded", "unknown-outcome", "key-in-use")
"""Kinds of refusals that end by themselves when the other nodes are there."""

NodeFile = Annotated[Path, typer.Option(help="This node's node.toml.")]


def before_shutdown(config: NodeFile) -> None:
    """If the machine is going off: hand this node's programs over, and let none come to it.

    It does nothing while the machine stays, so the unit that calls it may be stopped.
    """
    from cluster.config import NODE_FILE

    settings = NODE_FILE.load(config)
    if not machine_goes_off():
        note("the machine stays: nothing is handed over")
        return
    asyncio.run(_leave(settings))


def after_boot(config: NodeFile) -> None:
    """End the drain of `before-shutdown`; a drain that a person asked for stays. Waits for the cluster."""
    from cluster.config import NODE_FILE

    settings = NODE_FILE.load(config)
    mark = _mark(settings)
    if mark.exists():
        asyncio.run(_come_back(settings))
        mark.unlink(missing_ok=True)


def machine_goes_off() -> bool:
    """Whether systemd is on its way to a shutdown or a boot."""
    done = subprocess.run(["systemctl", "is-system-running"], capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() == "stopping"


async def _leave(settings: NodeConfig) -> None:
    node = settings.node.id

    async def leave(one: AsyncClient) -> None:
        nodes = {each["node"]: each for each in await one.list_nodes()}
        if not nodes[node]["drained"]:
            _mark(settings).touch()
        await empty(one, node)

    try:
        async with asyncio.timeout(SHUTDOWN_S):
            await _ask(settings, leave)
    except TimeoutError:
        what = f"node {node} is not empty within {SHUTDOWN_S:g} s"
        raise ClusterRefused(what, hint="its programs are taken over when their leases have ended") from None
    note(f"node {node} is drained until it is back")


async def _come_back(settings: NodeConfig) -> None:
    while True:
        try:
            await _ask(settings, lambda one: one.undrain_node(settings.node.id))
        except ClusterRefused as refusal:
            if refusal.kind not in _LATER:
                raise
            await asyncio.sleep(AGAIN_S)
        else:
            note(f"programs may come to node {settings.node.id} again")
            return


async def _ask(settings: NodeConfig, question: Callable[[AsyncClient], Awaitable[Any]]) -> None:
    """Ask the cluster: this node, else another one."""
    from transport.pki import AUTHORITY_CERTIFICATE

    others = [one.admin for one in settings.nodes if one.id != settings.node.id]
    authority = Path(settings.node.pki) / AUTHORITY_CERTIFICATE
    async with client([settings.own.admin, *others], "", str(authority)) as one:
        await question(one)


def _mark(settings: NodeConfig) -> Path:
    return Path(settings.node.data) / MARK
