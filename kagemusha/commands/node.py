"""`kagemusha node`: a node's daemon. The composition root: what the rooms need of each other is put together here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kagemusha.inherited_signals import hear_all
from kagemusha.promptness import DAEMON_PRIORITY, be_punctual, punctual_workers
from kagemusha.service_manager import ServiceManager

if TYPE_CHECKING:
    from cluster.admin.app import Api
    from cluster.config import NodeConfig
    from cluster.node.runner import Runner
    from transport.tls import Tls


def node(config: Annotated[Path, typer.Option(help="This node's node.toml.")]) -> None:
    """Run this node's daemon, in the foreground: agents, links to the other nodes, and its part in deciding."""
    hear_all()
    manager = ServiceManager.taken_from(os.environ)
    be_punctual(DAEMON_PRIORITY)
    import uvloop

    from cluster.config import NODE_FILE
    from transport import logs
    from transport.log_level import LogLevel

    settings = NODE_FILE.load(config)
    logs.configure(LogLevel(Path(settings.node.run)), node=settings.node.id)
    _say_what_it_lacks()
    raise typer.Exit(uvloop.run(_run(settings, manager)))


def _say_what_it_lacks() -> None:
    import structlog

    if os.geteuid() != 0:
        only = "only programs in structures mode, with the driver proxy or exec"
        structlog.get_logger().warning("this node is not root", user=os.geteuid(), serves=only)


async def _run(config: NodeConfig, manager: ServiceManager) -> int:
    import asyncio
    import signal

    from cluster.admin.app import Api, Settings, contexts_of
    from cluster.admin.auth import Tokens
    from cluster.admin.service import ClusterService
    from cluster.config import host_and_port
    from cluster.node.runner import Given, Runner
    from kagemusha.program_reader import alike, preflight, read_program
    from transport.errors import ConfigError
    from transport.pki import NODE_CERTIFICATE
    from transport.tls import Tls

    tls = Tls.load(Path(config.node.pki))
    if tls.node != config.node.id:
        what = f"{config.node.pki}/{NODE_CERTIFICATE}: is the certificate of node {tls.node}, not of {config.node.id}"
        raise ConfigError(what, hint=f"kagemusha pki issue AUTHORITY {config.node.id} --out {config.node.pki}")
    ourselves = (sys.executable, "-m", "kagemusha")
    given = Given((*ourselves, "agent"), (*ourselves, "watchdog"), read_program, preflight)
    runner = Runner(config, tls, given)
    host, port = host_and_port(config.own.admin)
    https = Settings(config.node.id, host, port, *contexts_of(Path(config.node.pki)))
    api = Api(ClusterService(runner, alike, _read_clock), Tokens(Path(config.api.tokens)), https)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(punctual_workers())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    loop.add_signal_handler(signal.SIGHUP, _renew, tls, api, runner)
    await runner.start()
    ends = [asyncio.create_task(told.wait()), asyncio.create_task(runner.failed())]
    try:
        await api.start()
        manager.ready(f"node {config.node.id} of cluster {config.cluster.id}")
        ends.append(asyncio.create_task(_ping(manager)))
        await asyncio.wait(ends[:2], return_when=asyncio.FIRST_COMPLETED)
        manager.stopping()
        if told.is_set():
            await runner.extend()
    finally:
        await api.close()
        await runner.close()
    if ends[1].done():
        failure = ends[1].result()
        if isinstance(failure, Exception):
            raise failure
    for end in ends:
        end.cancel()
    return 0


async def _ping(manager: ServiceManager) -> None:
    """From the event loop, which is what must not hang."""
    import asyncio

    while manager.ping_s is not None:
        manager.ping()
        await asyncio.sleep(manager.ping_s)


def _renew(tls: Tls, api: Api, runner: Runner) -> None:
    """Certificates were renewed: go by the new ones from now on, the agents too. Links that are open stay open."""
    import structlog

    from transport.errors import ConfigError

    try:
        tls.reload()
        api.renew(Path(runner.config.node.pki))
    except ConfigError as error:
        structlog.get_logger().error("the certificates stay as they were", reason=error.what, hint=error.hint)
        return
    runner.supervisor.renew_certificates()
    structlog.get_logger().info("the certificates were read again", pki=runner.config.node.pki)


def _read_clock() -> tuple[bool, float] | None:
    """What the kernel says of the wall clock; None where it does not."""
    from agent.errors import KernelError
    from agent.kernel.clock import wall_clock

    try:
        clock = wall_clock()
    except KernelError:
        return None
    return clock.synchronised, clock.error_s
