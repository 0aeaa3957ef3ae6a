"""One agent process on a node, and the control connection to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from kagemusha.demo.errors import DemoError
from kagemusha.demo.nodes import Node
from kagemusha.demo.process import last_line, start_python
from kagemusha.demo.story import STREAM_PORT
from transport.control import Event, GetStatus, Ok, Quit, Reply, Request, Status
from transport.control_socket import ControlClient
from transport.errors import ControlError

COMMAND: tuple[str, ...] = ("-m", "kagemusha", "agent")
START_S = 20.0
REQUEST_S = 20.0
_LOOK_AGAIN_S = 0.01


class Agent:
    """The `number`th agent that this run starts on a node; its log is `log`."""

    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        self.number = number
        self.log = node.directory.logs / f"agent-{node.name}-{number}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._client: ControlClient | None = None

    @property
    def name(self) -> str:
        """How a person calls it."""
        return f"the agent of node {self.node.name}"

    @property
    def stream_port(self) -> int:
        """Where mirrors subscribe to it."""
        return STREAM_PORT + self.number

    async def start(self) -> None:
        """Start the process and connect to its control socket. DemoError if it ends, or is not there in time."""
        outside, inside = self.node.own_path(f"control-{self.number}")
        directory = self.node.own_path(f"agent-{self.number}")
        directory[0].mkdir(exist_ok=True)
        arguments = {
            "--config": self.node.directory.node / "program.toml",
            "--node": self.node.name,
            "--directory": directory[1],
            "--control": inside,
            "--listen": f"{self.node.address}:{self.stream_port}",
            "--pki": self.node.directory.node / "pki",
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        self._process = await start_python(self.node, (*COMMAND, *words), self.log)
        self._client = await self._connected(outside)

    async def _connected(self, path: Path) -> ControlClient:
        assert self._process is not None
        try:
            async with asyncio.timeout(START_S):
                while True:
                    try:
                        return await ControlClient.connect(path)
                    except ControlError:
                        if self._process.returncode is not None:
                            raise DemoError(self._ended(), hint=f"see {self.log}") from None
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError as error:
            raise DemoError(f"{self.name} does not answer within {START_S:g} s", hint=f"see {self.log}") from error

    def _ended(self) -> str:
        assert self._process is not None
        return f"{self.name} ended with status {self._process.returncode}: {self.last_words()}"

    def last_words(self) -> str:
        """The last line of its log; of one that ends with a traceback, which is one line there, the error alone."""
        return last_line(self.log).split("\\n")[-1].strip('"')

    async def request(self, message: Request, deadline_s: float = REQUEST_S) -> Reply:
        """Send a request; DemoError, with the agent's own words, if it is refused or has no reply in time."""
        name = type(message).__name__
        assert self._client is not None
        try:
            async with asyncio.timeout(deadline_s):
                return await self._client.request(message)
        except TimeoutError as error:
            raise DemoError(f"{name}: {self.name} has no reply in {deadline_s:g} s", hint=f"see {self.log}") from error
        except ControlError as error:
            hint = "; ".join(filter(None, (error.hint, f"see {self.log}")))
            raise DemoError(f"{name}: {self.name}: {error.what}", hint=hint) from error

    async def carry_out(self, message: Request, deadline_s: float = REQUEST_S) -> None:
        """Send a request whose reply is Ok."""
        reply = await self.request(message, deadline_s)
        if not isinstance(reply, Ok):
            raise DemoError(f"{type(message).__name__}: {self.name} replies {reply}", hint=f"see {self.log}")

    async def status(self) -> Status:
        """What there is to know of its instance now."""
        reply = await self.request(GetStatus())
        if not isinstance(reply, Status):
            raise DemoError(f"GetStatus: {self.name} replies {reply}", hint=f"see {self.log}")
        return reply

    def events(self) -> AsyncIterator[Event]:
        """Its events, until the connection ends."""
        assert self._client is not None
        return self._client.events()

    async def stop(self) -> None:
        """End the agent in order; if that takes too long, or it is gone already, make sure of it."""
        if self._client is not None:
            try:
                async with asyncio.timeout(REQUEST_S):
                    await self._client.request(Quit())
                    if self._process is not None:
                        await self._process.wait()
            except (ControlError, TimeoutError):
                pass
        await self.close()

    async def close(self) -> None:
        """Kill the process if it still is, and close the connection."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
        if self._client is not None:
            await self._client.close()
