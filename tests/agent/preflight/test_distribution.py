"""Distributions and their ways to a newer kernel."""

from __future__ import annotations

import pytest

from agent.preflight.distribution import kernel_version, newer_kernel_remedy, parse_os_release, read_os_release


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian"\n', "bookworm-backports linux-image-amd64"),
        ("ID=ubuntu\nID_LIKE=debian\n", "linux-generic-hwe"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "kernel-ml"),
        ("ID=fedora\n", "dnf upgrade kernel"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "zypper"),
        ("ID=raspbian\nID_LIKE=debian\nVERSION_CODENAME=trixie\n", "trixie-backports"),
        ("# nothing\nID=unheard-of\n", "install a kernel of 6.7 or newer"),
        ("", "install a kernel of 6.7 or newer"),
    ],
)
def test_the_remedy_is_the_distributions_own(text: str, command: str) -> None:
    assert command in newer_kernel_remedy(parse_os_release(text))


def test_this_machine_has_one() -> None:
    assert read_os_release()["ID"]
    assert read_os_release("/nowhere") == {}


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-amd64", (6, 18)), ("6.7", (6, 7)), ("5.14.0-362.el9.x86_64", (5, 14)), ("strange", (0, 0))],
)
def test_kernel_versions(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
