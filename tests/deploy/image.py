"""The disk that every machine of the trial begins with: a minimal Debian, made once and kept.

It has what an installer of Debian 12 leaves on a server, and what a program needs that is to be mirrored (redis); of
kagemusha nothing. Its name has the hash of what it was made of, so that another recipe makes another image.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from pathlib import Path

from tests.deploy.shell import run

CACHE = Path("/var/cache/kagemusha-tests")
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2", "iputils-ping", "ca-certificates"),
    *("openssh-server", "python3", "python3-venv", "python3-apt"),
    *("nftables", "keepalived", "redis-server", "faketime"),
)
DISABLED = ("redis-server", "keepalived", "nftables", "apt-daily.timer", "apt-daily-upgrade.timer")
_FILES = {
    "etc/ssh/sshd_config.d/trial.conf": "PermitRootLogin prohibit-password\nUseDNS no\nMaxStartups 100\n",
    "etc/systemd/journald.conf.d/trial.conf": "[Journal]\nStorage=persistent\n",
}


def recipe() -> str:
    """What the image is made of, as a short hash."""
    words = repr((SUITE, PACKAGES, DISABLED, sorted(_FILES.items())))
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def base_image(cache: Path = CACHE) -> tuple[Path, bool]:
    """The root directory of the image, made if need be, and whether it had to be. Raises TrialError."""
    cache.mkdir(parents=True, exist_ok=True)
    image = cache / f"debian-{recipe()}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if image.is_dir():
            return image, False
        for old in cache.glob("debian-*"):
            shutil.rmtree(old)
        _make(cache / "debian-unfinished")
        (cache / "debian-unfinished").rename(image)
    return image, True


def _make(root: Path) -> None:
    gently = ("nice", "-n15", "ionice", "-c3")
    include = f"--include={','.join(PACKAGES)}"
    run(*gently, "debootstrap", "--variant=minbase", include, SUITE, str(root), MIRROR, timeout_s=1800)
    for name, text in _FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for unit in DISABLED:
        run("systemctl", f"--root={root}", "disable", unit)
    for name in ("etc/machine-id", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/machine-id").touch()
    shutil.rmtree(root / "var/cache/apt/archives")
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "var/lib/apt/lists").mkdir()
