"""Those who change the registry while it is harmed: each through a node of its own, all at one program's entry."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from kagemusha.client import ApiError, Json
from kagemusha.demo.errors import DemoError
from tests.chaos.administrator import Administrator
from tests.chaos.evidence import RegistryOperation
from tests.chaos.observer import SceneError

PROGRAM: Final = "registered"
DEFINITION: Final = f"""\
[program]
id = "{PROGRAM}"
command = ["/bin/sleep", "infinity"]
directory = "/"
"""
STEP_S: Final = 12 * 3600
"""Of a pause for each degree. Wall clocks that are five hours wrong do not make one degree another."""
DEGREE_MAX: Final = 12
_ANSWER_S: Final = 10.0
_PAUSE_S: Final = 0.25
_REFUSALS: Final = {"create": "exists", "delete": "unknown", "pause": "unknown", "resume": "unknown"}
Kind = Literal["create", "delete", "pause", "resume", "look"]
Told = Literal[Kind, "read"]
Outcome = Literal["ok", "refused", "unknown"]
_KINDS: Final[tuple[Kind, ...]] = (*("look",) * 3, *("pause",) * 4, "resume", *("create",) * 2, "delete")


class Registrars:
    """through: whom each asks, by the node that answers. told: what came of it."""

    def __init__(self, through: Mapping[str, Administrator], config_file: Path) -> None:
        self.told: list[RegistryOperation] = []
        self._through = through
        self._config_file = config_file
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Until `finish`."""
        chances = ((name, random.Random(number)) for number, name in enumerate(self._through))
        self._tasks = [asyncio.ensure_future(self._go_on(name, chance)) for name, chance in chances]

    async def finish(self) -> list[RegistryOperation]:
        """What was asked and answered. Raises SceneError: one of them had ended by itself, and saw nothing since."""
        for task in self._tasks:
            task.cancel()
        tasks, self._tasks = self._tasks, []
        for came in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(came, asyncio.CancelledError):
                raise SceneError(f"who changes the registry has ended by himself: {came!r}")
        return self.told

    async def _go_on(self, name: str, chance: random.Random) -> None:
        while True:
            kind = chance.choice(_KINDS)
            await self._ask(name, kind, chance.randint(1, DEGREE_MAX) if kind == "pause" else None)
            await asyncio.sleep(chance.uniform(0, 2 * _PAUSE_S))

    async def _ask(self, name: str, kind: Kind, degree: int | None) -> None:
        begun_ns = time.monotonic_ns()
        outcome: Outcome = "unknown"
        entry: Json | None = None
        try:
            async with asyncio.timeout(_ANSWER_S):
                entry = await self._asked(self._through[name], kind, degree)
            outcome = "ok"
        except DemoError as error:
            cause = error.__cause__
            if isinstance(cause, ApiError) and cause.kind == _REFUSALS.get(kind):
                outcome = "refused"
        except TimeoutError:
            pass
        finally:
            at_ns = (begun_ns, time.monotonic_ns())
            seen = degree_of(entry)
            # Another's pause may have come between, and is what was seen then.
            until = str(entry["paused_until"]) if entry is not None and kind == "pause" and seen == degree else ""
            self._tell(name, kind, seen if kind == "look" else degree, at_ns, outcome, until)
            if kind in ("pause", "resume") and outcome == "ok":
                self._tell(name, "read", seen, at_ns, "ok")

    def _tell(
        self, name: str, kind: Told, degree: int | None, at_ns: tuple[int, int], outcome: Outcome, until: str = ""
    ) -> None:
        self.told.append(RegistryOperation(f"registrar-{name}", kind, degree, name, *at_ns, outcome, until))

    async def _asked(self, whom: Administrator, kind: Kind, degree: int | None) -> Json | None:
        """The program's entry, where it is told."""
        match kind:
            case "create":
                await whom.create(self._config_file, (next(iter(self._through)),))
            case "delete":
                await whom.delete()
            case "pause":
                return await whom.pause((degree or 0) * STEP_S)
            case "resume":
                return await whom.resume()
            case "look":
                return next((one for one in await whom.programs() if one["program"] == PROGRAM), None)
        return None


def degree_of(entry: Json | None) -> int | None:
    """Of the program's entry: None, it is not there; 0, it is not paused; else for how long it was paused."""
    if entry is None or entry["paused_until"] is None:
        return None if entry is None else 0
    return round((datetime.fromisoformat(entry["paused_until"]).timestamp() - time.time()) / STEP_S)
