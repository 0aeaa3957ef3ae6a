"""Namespaces entered and left again, and the clocks of a time namespace as text."""

from __future__ import annotations

import os

import pytest

from agent.errors import KernelError
from agent.kernel import namespaces
from agent.kernel.namespaces import TimeOffsets


def own_network() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_a_network_namespace_is_left_again() -> None:
    before = own_network()
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    namespaces.unshare(namespaces.NETWORK)
    other = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    inside = own_network()
    namespaces.setns(home, namespaces.NETWORK)
    assert own_network() == before != inside
    with namespaces.in_network_namespace(other):
        assert own_network() == inside
    assert own_network() == before
    with pytest.raises(ZeroDivisionError), namespaces.in_network_namespace(other):
        _ = 1 // 0
    assert own_network() == before
    with namespaces.in_network_namespace(None):
        assert own_network() == before
    os.close(other)
    os.close(home)


def test_what_is_no_namespace_is_refused() -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(KernelError, match="setns"):
        namespaces.setns(null, namespaces.NETWORK)
    os.close(null)


@pytest.mark.parametrize("offset_ns", [0, 1, -1, 1_500_000_000, -1_500_000_000, 10**18])
def test_offsets_survive_the_way_through_the_kernels_format(offset_ns: int) -> None:
    offsets = TimeOffsets(offset_ns, 2 * offset_ns)
    text = offsets.encode()
    assert TimeOffsets.decode(text) == offsets
    assert all(0 <= int(line.split()[2]) < 1_000_000_000 for line in text.splitlines())
    assert TimeOffsets.decode(text + "other 1 1\n") == offsets


def test_offsets_add_up() -> None:
    assert TimeOffsets(1, 2) + TimeOffsets(10, 20) == TimeOffsets(11, 22)
    assert namespaces.time_offsets(os.getpid()) == namespaces.time_offsets()
