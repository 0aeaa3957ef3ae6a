"""Leads a program's clients to this node while it serves here, and sees to it that it stays so.

Whatever takes the address away (a keepalived that is started, a person), or lets a command fail, is answered by
claiming again: at once where the kernel tells of it, with growing pauses where it does not help. A program whose
clients can't be led here serves on: to end it would lose what it knows, and lead nobody anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from cluster.redirect.address_events import AddressEvents
from cluster.redirect.driver import Driver, Silenced, StaleToken
from transport.errors import KagemushaError

log = structlog.get_logger()

LOOK_S: Final = 1.0
PAUSE_S: Final = 0.1
PAUSE_S_MAX: Final = 5.0


class Guide:
    """All methods belong to the event loop.

    may_serve: whether the program may serve at this moment; nothing is claimed while it may not. look: what else is
    wrong, asked once a second, "" for nothing. changed: `trouble` is another.
    """

    def __init__(
        self,
        program: str,
        driver: Driver,
        may_serve: Callable[[], bool],
        look: Callable[[], str],
        changed: Callable[[], None],
    ) -> None:
        self.trouble = ""
        self._program = program
        self._driver = driver
        self._may_serve = may_serve
        self._look = look
        self._changed = changed
        self._token = 0
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._events: AddressEvents | None = None

    async def claim(self, token: int) -> None:
        """Lead clients here from now on. What does not succeed at once is said, and tried again."""
        self._token = token
        await self._claim(token)
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep())
        if self._events is None:
            self._events = AddressEvents(self._woken.set)

    def pause(self) -> None:
        """Claim nothing again until the next `claim`."""
        self._token = 0

    async def release(self, token: int) -> None:
        """Lead them here no more. What does not succeed is said."""
        if self._token > token:
            return
        self._token = 0
        async with self._lock:
            try:
                await self._driver.release(token)
                self._say("")
            except KagemushaError as error:
                self._say(error.what, error.hint)

    def release_soon(self, token: int) -> None:
        """The same, by and by; nothing is claimed again from now on."""
        if 0 < self._token <= token:
            self._token = 0
        self._later(self.release(token))

    async def close(self) -> None:
        """Look after nothing more; where clients are led stays as it is, if it can."""
        tasks = [task for task in (self._keeping, *self._leaving) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._events is not None:
            self._events.close()
            self._events = None
        await self._driver.close()

    async def _claim(self, token: int) -> bool:
        async with self._lock:
            if token != self._token:
                return False
            try:
                await self._driver.claim(token)
            except (StaleToken, Silenced) as error:
                log.info("not led here", program=self._program, reason=error.what)
                return False
            except KagemushaError as error:
                self._say(error.what, error.hint)
                return False
            self._say("")
            return True

    async def _keep(self) -> None:
        pause_s = 0.0
        while True:
            self._woken.clear()
            # Not wait_for(): that of Python 3.11 forgets that it was cancelled if it is woken at the same time.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()
            token = self._token
            if not token or not self._may_serve():
                continue
            if await self._is_led(token):
                pause_s = 0.0
                self._say(self._look())
                continue
            await asyncio.sleep(pause_s)
            if token == self._token and self._may_serve():
                claimed = await self._claim(token)
                if claimed:
                    log.warning("clients were not led to this node any more; they are again", program=self._program)
                pause_s = 0.0 if claimed else min(max(pause_s * 2, PAUSE_S), PAUSE_S_MAX)
                if not claimed:
                    self._woken.set()

    async def _is_led(self, token: int) -> bool:
        async with self._lock:
            if token != self._token:
                return True
            try:
                return await self._driver.holds()
            except KagemushaError as error:
                self._say(error.what, error.hint)
                return False

    def _say(self, trouble: str, hint: str = "") -> None:
        if trouble == self.trouble:
            return
        if trouble:
            log.error("redirect", program=self._program, trouble=trouble, hint=hint)
        else:
            log.info("redirect is in order again", program=self._program)
        self.trouble = trouble
        self._changed()

    def _later(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
