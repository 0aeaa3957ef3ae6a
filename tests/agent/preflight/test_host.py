"""What is said of a node."""

from __future__ import annotations

import os

import pytest

from agent.preflight.host import (
    AGENT_OVERHEAD_MIB,
    Check,
    available_memory_mib,
    host_checks,
    kernel_checks,
    memory_check,
    privilege_check,
    resident_mib,
)
from agent.preflight.probe import PROBES, Probe, probe_kernel

DEBIAN = {"ID": "debian", "VERSION_CODENAME": "bookworm"}


def the_reason(check: Check) -> tuple[str, str]:
    """The only reason of a check as a line, and its remedy."""
    assert len(check.reasons) == 1
    return str(check.reasons[0]), check.reasons[0].remedy


def test_this_node_can_mirror() -> None:
    assert not [check for check in host_checks(64, None, probe_kernel()) if not check.passed]


def test_without_root() -> None:
    assert privilege_check(0).passed
    line, remedy = the_reason(privilege_check(1000))
    assert line == "the user with the number 1000: mirroring a process takes root"
    assert remedy == 'run it with sudo; mirror.mode = "structures" takes none'


def test_a_kernel_that_is_too_old() -> None:
    kernel, *others = kernel_checks("6.1.0-18-amd64", "x86_64", DEBIAN, [])
    line, remedy = the_reason(kernel)
    assert line == "kernel 6.1.0-18-amd64: is older than 6.7, the first with PAGEMAP_SCAN"
    assert "apt-get install -t bookworm-backports linux-image-amd64" in remedy
    assert all(check.passed for check in others)


def test_another_architecture() -> None:
    _, architecture = kernel_checks("6.12.0", "aarch64", DEBIAN, [])
    assert the_reason(architecture)[0] == "this machine, aarch64: only x86_64 can be mirrored"


@pytest.mark.parametrize("name", PROBES)
def test_every_feature_that_does_not_work_has_a_remedy(name: str) -> None:
    failed = Probe(name, False, "Operation not permitted (EPERM)")
    *_, check = kernel_checks("6.12.0", "x86_64", DEBIAN, [failed])
    line, remedy = the_reason(check)
    assert line == f"{name}: does not work: Operation not permitted (EPERM)"
    assert remedy


def test_memory_before_the_start_is_for_program_and_image() -> None:
    needed = 2 * 1000 + AGENT_OVERHEAD_MIB
    assert memory_check(1000, None, needed).passed
    line, remedy = the_reason(memory_check(1000, None, needed - 1))
    assert line == (
        f"memory of this node: too little: {needed - 1} MiB available, {needed} needed "
        f"(program 1000, image 1000, agent {AGENT_OVERHEAD_MIB})"
    )
    assert remedy.startswith("free or add 1 MiB of memory")


def test_memory_of_a_running_program_is_for_its_image() -> None:
    own = resident_mib(os.getpid())
    assert own > 1
    assert memory_check(None, os.getpid(), own + AGENT_OVERHEAD_MIB + 16).passed
    assert not memory_check(None, os.getpid(), AGENT_OVERHEAD_MIB).passed


def test_memory_that_is_not_stated_is_not_compared() -> None:
    check = memory_check(None, None, 1)
    assert check.passed
    assert "memory_mib_max is not set" in check.detail


def test_this_node_has_memory() -> None:
    assert 0 < available_memory_mib() < 2**40
