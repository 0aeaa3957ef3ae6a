"""The operator's commands: what they are told, and what becomes of those that fail, hang or belong to somebody else."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.redirect.driver import RedirectError, StaleToken
from cluster.redirect.exec import ExecDriver, require_trusted
from cluster.redirect.redirection import Redirection

DEADLINE_S = 20.0


@pytest.fixture
def said(tmp_path: Path) -> Redirection:
    """Commands that write down what they know; check succeeds while `here` is there."""
    log, here = tmp_path / "log", tmp_path / "here"
    words = "$KAGEMUSHA_ACTION $KAGEMUSHA_PROGRAM $KAGEMUSHA_ADDRESS $KAGEMUSHA_NODE $KAGEMUSHA_TOKEN"
    commands = {}
    for name, does in (("claim", f"touch {here}"), ("release", f"rm -f {here}"), ("check", f"test -e {here}")):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho "{words}" "$@" >>{log}\n{does}\n')
        path.chmod(0o755)
        commands[name] = (str(path), f"--{name}")
    claim, release, check = commands.values()
    return Redirection("exec", claim=claim, release=release, check=check, timeout_s=5.0)


def said_to(said: Redirection) -> list[str]:
    """What the commands wrote."""
    return (Path(said.claim[0]).parent / "log").read_text().splitlines()


async def test_each_command_knows_what_it_is_for(said: Redirection) -> None:
    driver = ExecDriver("redis", "a", said, None)
    assert not await driver.holds()
    await driver.claim(1)
    assert await driver.holds()
    await driver.claim(1)
    await driver.release(1)
    assert not await driver.holds()
    await driver.claim(3)
    with pytest.raises(StaleToken, match="token 2 is late, 3 is known"):
        await driver.release(2)
    assert await driver.holds()
    assert said_to(said) == [
        "claim redis  a 1 --claim",
        "check redis  a 1 --check",
        "claim redis  a 1 --claim",
        "release redis  a 1 --release",
        "claim redis  a 3 --claim",
        "check redis  a 3 --check",
    ]
    (Path(said.claim[0]).parent / "here").unlink()
    assert not await driver.holds()
    plain = ExecDriver("redis", "a", replace(said, check=()), None)
    await plain.claim(1)
    (Path(said.claim[0]).parent / "here").unlink()
    assert await plain.holds()
    await plain.close()


async def test_one_that_fails(said: Redirection) -> None:
    claim = Path(said.claim[0])
    text = claim.read_text()
    driver = ExecDriver("redis", "a", said, None)
    claim.write_text("#!/bin/sh\necho the router\necho refuses >&2\nexit 3\n")
    with pytest.raises(RedirectError, match=f"redis: claim {claim}: ends with status 3: refuses"):
        await driver.claim(1)
    assert not await driver.holds()
    claim.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(RedirectError, match="ends with signal 9"):
        await driver.claim(1)
    claim.write_text("#!/nowhere/sh\n")
    with pytest.raises(RedirectError, match="can't be started: No such file"):
        await driver.claim(1)
    # Whatever it says is read, or it would wait for ever.
    claim.write_text("#!/bin/sh\nyes | head -c 1000000\n")
    await driver.claim(1)
    claim.write_text(text)
    await driver.claim(1)
    assert await driver.holds()


async def test_one_that_hangs_is_ended_with_its_children(said: Redirection, tmp_path: Path) -> None:
    claim, child = Path(said.claim[0]), tmp_path / "child"
    claim.write_text(f"#!/bin/sh\nsleep 1000 & echo $! >{child}.fresh; mv {child}.fresh {child}\nwait\n")
    driver = ExecDriver("redis", "a", replace(said, timeout_s=0.5), None)
    with pytest.raises(RedirectError, match="has not ended within 500 ms"):
        await driver.claim(1)
    async with asyncio.timeout(DEADLINE_S):
        while child.exists() and _is_alive(int(child.read_text())):
            await asyncio.sleep(0.01)
    # A child that goes on in the background is ended, too: nothing of a command outlives it.
    claim.write_text(f"#!/bin/sh\nsleep 1000 >/dev/null 2>&1 & echo $! >{child}\n")
    await driver.claim(1)
    async with asyncio.timeout(DEADLINE_S):
        while _is_alive(int(child.read_text())):
            await asyncio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_what_others_could_write_is_not_run(said: Redirection) -> None:
    claim = Path(said.claim[0])
    driver = ExecDriver("redis", "a", said, None)
    for owner, group, mode in ((0, 1, 0o775), (0, 0, 0o757), (1, 0, 0o755)):
        os.chown(claim, owner, group)
        claim.chmod(mode)
        with pytest.raises(RedirectError, match="others than root can write it"):
            await driver.claim(1)
        with pytest.raises(RedirectError, match="others than root can write it"):
            require_trusted(str(claim), "redirect")
        os.chown(claim, 0, 0)
        claim.chmod(0o755)
    claim.chmod(0o644)
    with pytest.raises(RedirectError, match="can't be started: Permission denied"):
        await driver.claim(1)
    with pytest.raises(RedirectError, match="is no executable file"):
        require_trusted(str(claim), "redirect")
    claim.unlink()
    with pytest.raises(RedirectError, match="No such file"):
        await driver.claim(1)


class Carrier:
    """An address that is a word."""

    def __init__(self) -> None:
        self.here = False

    def put(self) -> None:
        self.here = True

    def drop(self) -> None:
        self.here = False

    def has(self) -> bool:
        return self.here

    def close(self) -> None:
        pass


async def test_an_address_goes_along(said: Redirection) -> None:
    carrier = Carrier()
    driver = ExecDriver("redis", "a", replace(said, address="10.0.0.100/24", interface="eth0"), carrier)
    await driver.claim(1)
    assert carrier.here
    assert said_to(said) == ["claim redis 10.0.0.100/24 a 1 --claim"]
    carrier.here = False
    assert not await driver.holds()
    await driver.claim(1)
    assert carrier.here
    Path(said.release[0]).write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(RedirectError, match=r"ends with status 1$"):
        await driver.release(1)
    assert not carrier.here
