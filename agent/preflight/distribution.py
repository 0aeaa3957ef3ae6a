"""Which Linux distribution this is, and its own way to a newer kernel: a remedy names a command, not a wish."""

from __future__ import annotations

import shlex
from pathlib import Path

KERNEL_NEEDED = (6, 7)

_NEWER_KERNEL = {
    "debian": "apt-get install -t {codename}-backports linux-image-amd64 (with {codename}-backports in "
    "/etc/apt/sources.list), then reboot",
    "ubuntu": "apt-get install linux-generic-hwe-24.04 (Ubuntu 24.04 and later), then reboot",
    "fedora": "dnf upgrade kernel, then reboot",
    "rhel": "dnf --enablerepo=elrepo-kernel install kernel-ml (ELRepo), or move to RHEL 10, then reboot",
    "suse": "zypper update kernel-default on Tumbleweed, or move to Leap 16, then reboot",
    "arch": "pacman -Syu linux, then reboot",
}
_FAMILY = {
    "centos": "rhel",
    "rocky": "rhel",
    "almalinux": "rhel",
    "ol": "rhel",
    "opensuse": "suse",
    "sles": "suse",
    "linuxmint": "ubuntu",
}


def read_os_release(path: str = "/etc/os-release") -> dict[str, str]:
    """The fields of os-release(5); empty where there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return parse_os_release(text)


def parse_os_release(text: str) -> dict[str, str]:
    """The fields of an os-release text, unquoted."""
    fields = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            fields[key] = "".join(shlex.split(value))
    return fields


def newer_kernel_remedy(os_release: dict[str, str]) -> str:
    """How this distribution gets a kernel that is new enough."""
    for name in [os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()]:
        family = _FAMILY.get(name.partition("-")[0], name.partition("-")[0])
        if family in _NEWER_KERNEL:
            return _NEWER_KERNEL[family].format(codename=os_release.get("VERSION_CODENAME", "stable"))
    return "install a kernel of 6.7 or newer, then reboot"


def kernel_version(release: str) -> tuple[int, int]:
    """(6, 18) from "6.18.44-amd64"; (0, 0) from what is no release."""
    parts = release.split("-")[0].split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return 0, 0
