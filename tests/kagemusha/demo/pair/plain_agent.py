"""An agent that mirrors nothing and says that it does: it takes over by starting the program anew.

The demo must find it out. It speaks the control socket and moves the address, so it also shows what a demo without
mirroring would look like.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import time
from pathlib import Path

from agent.program import Definition
from agent.program_file import load_definition
from transport import control
from transport.checkpoint import NOTHING, Version
from transport.control_socket import ControlServer

CLAIMED_STALENESS_MS = 10.0


class PlainAgent:
    """One instance. `forgetful` is all that it can be."""

    def __init__(self, definition: Definition, node: str, path: Path) -> None:
        assert definition.redirect is not None
        self.definition = definition
        self.redirect = definition.redirect
        self.instance = f"{definition.program.id}@{node}"
        self.role: control.Role = "mirror"
        self.token = 0
        self.process: asyncio.subprocess.Process | None = None
        self.quit = asyncio.Event()
        self.server = ControlServer(path, self.handle, lambda: control.Hello("redis", self.instance, 1, os.getpid(), 1))
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until Quit."""
        async with self.server:
            await self.quit.wait()

    async def handle(self, request: control.Request) -> control.Reply:
        """Carry out a request."""
        match request:
            case control.Launch(token) | control.Activate(token):
                await self.start(token)
            case control.Follow(token=token):
                self.token = token
                self.server.push(control.Mirrored(self.instance, 1, self.version))
            case control.Switch():
                await self.stop()
                return control.Held(self.version)
            case control.GetStatus():
                return self.status()
            case control.Quit():
                self.quit.set()
        return control.Ok()

    @property
    def version(self) -> Version:
        """A number that rises, as if there were checkpoints."""
        return Version(self.token, time.time_ns() // 50_000_000, 1)

    async def start(self, token: int) -> None:
        """Start the program from nothing, and claim its address."""
        self.token, self.role = token, "primary"
        program = self.definition.program
        self.process = await asyncio.create_subprocess_exec(
            *program.command, cwd=program.directory, stdout=subprocess.DEVNULL
        )
        self._ip("add")
        self._announce()
        task = asyncio.create_task(self._watch(self.process))
        self.tasks.add(task)
        self.server.push(control.Activated(token, self.version, (("start anew", 1000),)))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self.process is process:
            self._ip("del")
            status = -code if code < 0 else code << 8
            self.server.push(control.Exited(status, None, True, False, "it was killed"))

    async def stop(self) -> None:
        """Stop the program and drop its address."""
        process, self.process = self.process, None
        assert process is not None
        process.kill()
        await process.wait()
        self._ip("del")

    def _ip(self, verb: str) -> None:
        subprocess.run(["ip", "addr", verb, self.redirect.address, "dev", self.redirect.interface], check=verb == "add")

    def _announce(self) -> None:
        address = self.redirect.ip.packed
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((self.redirect.interface, 0))
            mac = sock.getsockname()[4]
            arp = bytes.fromhex("0001080006040001") + mac + address + bytes(6) + address
            sock.send(b"\xff" * 6 + mac + b"\x08\x06" + arp)

    def status(self) -> control.Status:
        """Every number is made up."""
        return control.Status(
            program="redis",
            instance=self.instance,
            incarnation=1,
            role=self.role,
            status="mirrored",
            reason="",
            token=self.token,
            version=self.version if self.token else NOTHING,
            lag_checkpoints=0,
            lag_ms=CLAIMED_STALENESS_MS,
            lag_bytes=0,
            staleness_ms=CLAIMED_STALENESS_MS,
            pauses=control.Pauses(1, 2, 3),
            checkpoints=7,
            abandoned=0,
            refused={},
            bytes=0,
            memory_bytes=0,
            sync=None,
            mirrors=(),
            connections=0,
            children=0,
            pid=self.process.pid if self.process else 0,
        )


async def _main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("config", "node", "directory", "control", "listen", "pki"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--after", type=int, default=0)
    options = parser.parse_args()
    await PlainAgent(load_definition(Path(options.config)), options.node, Path(options.control)).run()


if __name__ == "__main__":
    asyncio.run(_main())
