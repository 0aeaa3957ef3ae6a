"""Who has an address on the link: real neighbours answer."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_interface

import pytest

from cluster.redirect.probe import AddressInUse, has_one_of, owner, probing, question
from tests.agent.lan import Lan
from transport.errors import KagemushaError

PATIENCE_S = 20.0
"""How long is waited for a neighbour on a busy machine; it answers much sooner."""


@pytest.mark.parametrize("address", ["10.91.0.2/24", "fd91::2/64"])
async def test_a_neighbour_that_has_it_is_named(address: str) -> None:
    with Lan() as lan:
        hardware = lan.link("second").hardware.hex(":")
        with lan.inside("first"):
            async with probing(address, "eth0") as probe:
                with pytest.raises(AddressInUse, match=f"is used by {hardware} on eth0 already"):
                    await probe.judge(PATIENCE_S)
                with pytest.raises(AddressInUse):
                    await probe.judge(0)
            free = str(ip_interface(address).ip).removesuffix("2") + "77/24"
            async with probing(free.replace("/24", "/64") if ":" in free else free, "eth0") as probe:
                await probe.judge(0.2)
            # Its own address is nobody else's.
            own = str(ip_interface(address).ip).removesuffix("2") + "1"
            async with probing(f"{own}/64" if ":" in own else f"{own}/24", "eth0") as probe:
                await probe.judge(0.2)


async def test_no_such_interface_and_one_that_is_down() -> None:
    with Lan() as lan, lan.inside("first"):
        with pytest.raises(KagemushaError, match="interface none7: No such device"):
            async with probing("10.91.0.2/24", "none7"):
                pass
        lan.set_cable("first", plugged=False)
        async with probing("10.91.0.2/24", "eth0") as probe:
            await probe.judge(0.1)


def test_rubbish_is_nobody() -> None:
    address, hardware = IPv4Address("10.0.0.1"), b"\x02" + bytes(5)
    assert owner(b"", address, hardware) == ""
    assert owner(question(address, hardware), address, hardware) == ""
    assert owner(bytes(64), address, hardware) == ""
    six = ip_interface("fd00::1/64").ip
    assert owner(b"", six, hardware) == ""
    assert owner(bytes([136]) + bytes(7) + six.packed + bytes([2, 0, 0, 0, 0, 0, 0, 0]), six, hardware) == "somebody"


async def test_a_machine_is_known_by_another_of_its_addresses() -> None:
    with Lan() as lan:
        second, client = (lan.link(name).hardware.hex(":") for name in ("second", "client"))
        with lan.inside("first"):
            assert await has_one_of(second, ["10.91.0.77", "10.91.0.2"], "eth0", PATIENCE_S)
            assert not await has_one_of(client, ["10.91.0.77", "10.91.0.2"], "eth0", 0.2)
            assert not await has_one_of(second, [], "eth0")
