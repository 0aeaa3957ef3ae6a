"""Clients are led here as long as the program serves here, whatever happens meanwhile, and no longer."""

from __future__ import annotations

import asyncio

import pytest

from cluster.redirect import guide as guide_module
from cluster.redirect.driver import RedirectError
from cluster.redirect.guide import Guide

DEADLINE_S = 20.0
LOOK_S = 0.1


@pytest.fixture(autouse=True)
def _it_looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide_module, "LOOK_S", LOOK_S)


class Driver:
    """It fails while `broken`; what was done is in `log`."""

    def __init__(self) -> None:
        self.broken = ""
        self.here = False
        self.log: list[tuple[str, int]] = []

    async def claim(self, token: int) -> None:
        self.log.append(("claim", token))
        if self.broken:
            raise RedirectError(self.broken)
        self.here = True

    async def release(self, token: int) -> None:
        self.log.append(("release", token))
        if self.broken:
            raise RedirectError(self.broken)
        self.here = False

    async def holds(self) -> bool:
        return self.here

    async def close(self) -> None:
        self.log.append(("close", 0))


class Scene:
    """A guide, and all that it is given."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.may_serve = True
        self.look = ""
        self.changed = asyncio.Event()
        self.guide = Guide("redis", self.driver, lambda: self.may_serve, lambda: self.look, self.changed.set)

    async def until(self, trouble: str) -> None:
        """Wait for the guide to have this trouble."""
        async with asyncio.timeout(DEADLINE_S):
            while self.guide.trouble != trouble:
                self.changed.clear()
                await self.changed.wait()


async def test_what_is_lost_is_claimed_again_and_what_fails_is_tried_again() -> None:
    scene = Scene()
    guide, driver = scene.guide, scene.driver
    driver.broken = "the router refuses"
    await guide.claim(1)
    assert guide.trouble == "the router refuses"
    driver.broken = ""
    await scene.until("")
    assert driver.here
    driver.here = False
    async with asyncio.timeout(DEADLINE_S):
        while not driver.here:
            await asyncio.sleep(0.01)
    scene.look = "keepalived hangs"
    await scene.until("keepalived hangs")
    scene.look = ""
    await scene.until("")
    await guide.close()
    assert driver.here
    assert driver.log[-1] == ("close", 0)


async def test_nothing_is_claimed_for_a_program_that_may_not_serve_or_was_let_go() -> None:
    scene = Scene()
    guide, driver = scene.guide, scene.driver
    await guide.claim(1)
    scene.may_serve = False
    driver.here = False
    claims = len(driver.log)
    scene.look = "is not looked at"
    # Some looks pass.
    await asyncio.sleep(4 * LOOK_S)
    assert (len(driver.log), guide.trouble) == (claims, "")
    guide.release_soon(1)
    scene.may_serve = True
    async with asyncio.timeout(DEADLINE_S):
        while driver.log[-1] != ("release", 1):
            await asyncio.sleep(0.01)
    await guide.claim(3)
    await guide.release(2)
    assert driver.here
    driver.broken = "the router refuses"
    await guide.release(3)
    assert guide.trouble == "the router refuses"
    await guide.close()
