"""A client that did not hear where the address went hears it a second later, and nothing once the address is gone."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from agent.network import reminder as reminder_module
from agent.network.address import ServiceAddress
from agent.network.reminder import Reminder
from tests.agent.lan import ADDRESS4, ADDRESS6, Lan

DEADLINE_S = 20.0
NOBODY = "02:00:00:00:00:99"


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as one:
        yield one


def believe(lan: Lan, address: str) -> None:
    """The client believes that the address is where nobody is, and does not doubt it."""
    words = ["neigh", "replace", address, "lladdr", NOBODY, "nud", "reachable", "dev", "eth0"]
    subprocess.run(["ip", "-n", lan.name("client"), *words], check=True, timeout=DEADLINE_S)


def believed(lan: Lan, address: str) -> str:
    """Where it believes it."""
    words = ["ip", "-json", "-n", lan.name("client"), "neigh", "show", address]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=DEADLINE_S)
    return str(json.loads(done.stdout)[0]["lladdr"])


@pytest.mark.parametrize("address", [ADDRESS4, ADDRESS6], ids=["IPv4", "IPv6"])
async def test_who_missed_the_announcement_is_reminded(
    lan: Lan, address: IPv4Interface | IPv6Interface, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reminder_module, "EVERY_S", 0.05)
    target = str(address.ip)
    with lan.inside("first"):
        claimed, own = ServiceAddress([str(address)], "eth0"), ServiceAddress([str(address)], "eth0")
    claimed.claim()
    believe(lan, target)
    reminder = Reminder(own)
    reminder.start()
    async with asyncio.timeout(DEADLINE_S):
        while believed(lan, target) == NOBODY:
            await asyncio.sleep(0.01)
    assert believed(lan, target) == claimed.link.hardware.hex(":")
    # Whoever stops the program takes its address first.
    claimed.drop()
    assert not reminder.remind()
    believe(lan, target)
    assert not reminder.remind()
    assert believed(lan, target) == NOBODY
    reminder.close()
    claimed.close()
