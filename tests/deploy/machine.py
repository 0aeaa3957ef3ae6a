"""A machine of the trial: Debian that boots with its own systemd, its own disk, and an eth0 on the trial's network.

It is a container of systemd-nspawn in a network namespace that bears the trial's name, with all capabilities and no
system call filter: as near to a machine as a container comes. What it shares with this machine is the kernel and the
clocks. Its disk is the base image with a layer of its own above it, which survives when the power goes.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kagemusha.demo.namespace import NetworkNamespace
from tests.deploy.errors import TrialError
from tests.deploy.lan import Lan
from tests.deploy.shell import attempt, run

BOOT_S: Final = 90.0
_CGROUPS: Final = Path("/sys/fs/cgroup")

# Arguments: cgroup, image, disk, name, network namespace, address. The mounts are this process's own, and end with it.
# systemd-nspawn ends with 133 when the machine wants to boot again: its network then has forgotten what it was told.
_BOOT: Final = """
set -e
group=/sys/fs/cgroup/$1/machine image=$2 disk=$3 name=$4 network=$5 address=$6
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t overlay -o "lowerdir=$image,upperdir=$disk/layer,workdir=$disk/work" none "$disk/root"
status=133
while [ "$status" = 133 ]; do
    mkdir -p "$group"
    status=0
    sh -c 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' run "$group" \\
        systemd-nspawn --directory="$disk/root" --machine="$name" --hostname="$name" --register=no --keep-unit \\
        --network-namespace-path="$network" --capability=all --console=pipe --link-journal=no --boot || status=$?
    # A process that was killed is in its cgroup until it has been reaped.
    until find "$group" -mindepth 1 -depth -type d -exec rmdir {} + 2> /dev/null; do sleep 0.1; done
    nsenter --net="$network" sh -c 'nft flush ruleset; ip address flush dev eth0; ip address add "$1/24" dev eth0' \\
        flush "$address"
done
exit "$status"
"""


class Machine:
    """One machine. Use `boot`, `power_off`, `close`."""

    def __init__(self, lan: Lan, image: Path, directory: Path, name: str, number: int) -> None:
        self.name = name
        self.address = lan.address(number)
        self._lan = lan
        self._image = image
        self._disk = directory / name
        self._cgroup = f"{lan.prefix}{name}"
        self._network: NetworkNamespace | None = None
        self._process: subprocess.Popen[bytes] | None = None
        for part in ("layer", "work", "root"):
            (self._disk / part).mkdir(parents=True)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Put a file on its disk, before it boots for the first time."""
        path = self._disk / "layer" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def boot(self) -> None:
        """Switch it on. It may not answer yet."""
        self._network = self._lan.plug_in(self.name, self.address)
        words = (self._cgroup, str(self._image), str(self._disk), self.name, str(self._network.path), self.address)
        environment = {
            **os.environ,
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
            "SYSTEMD_SECCOMP": "0",
        }
        with (self._disk / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT, "boot", *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=environment,
                start_new_session=True,
            )

    def power_off(self) -> float:
        """The power goes, at once; gives when (CLOCK_MONOTONIC)."""
        at_s = time.monotonic()
        self._kill_all()
        if self._process is not None:
            self._process.wait(timeout=30)
        if self._network is not None:
            self._lan.unplug(self._network)
            self._network = None
        return at_s

    def _kill_all(self) -> None:
        for group in _cgroup_directories(self._cgroup):
            (group / "cgroup.kill").write_text("1")

    def close(self) -> None:
        """Switch it off, and leave nothing of it but its disk."""
        self.power_off()
        limit_s = time.monotonic() + 30
        for group in _cgroup_directories(self._cgroup):
            for part in (*sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True), group):
                while part.exists():
                    try:
                        part.rmdir()
                    except OSError as error:
                        if time.monotonic() > limit_s:
                            raise TrialError(f"{part} can't be removed: {error.strerror}") from None
                        time.sleep(0.01)

    def console(self) -> str:
        """What it wrote while it booted."""
        return (self._disk / "console.log").read_text(errors="replace")


class Ssh:
    """How the trial's client reaches machines."""

    def __init__(self, lan: Lan, directory: Path) -> None:
        self._lan = lan
        self.key = directory / "id"
        self.known_hosts = directory / "known_hosts"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "trial", "-f", str(self.key))
        self.public = self.key.with_suffix(".pub").read_text()

    @property
    def options(self) -> tuple[str, ...]:
        """For ssh(1): the trial's own key and hosts, no questions."""
        return (
            f"-oIdentityFile={self.key}",
            f"-oUserKnownHostsFile={self.known_hosts}",
            "-oIdentitiesOnly=yes",
            "-oStrictHostKeyChecking=accept-new",
            "-oBatchMode=yes",
            "-oConnectTimeout=3",
            "-oServerAliveInterval=5",
            "-oLogLevel=ERROR",
        )

    def attempt(self, machine: Machine, command: str, timeout_s: float = 60.0) -> tuple[int, str]:
        """Run a shell's line on a machine, as root; gives exit status and output."""
        argv = self._lan.command("ssh", *self.options, f"root@{machine.address}", command)
        return attempt(argv, timeout_s=timeout_s)

    def run(self, machine: Machine, command: str, timeout_s: float = 60.0) -> str:
        """The same; TrialError when it fails."""
        status, said = self.attempt(machine, command, timeout_s)
        if status:
            raise TrialError(f"{machine.name}: {command}: exit status {status}\n{said.strip()}")
        return said

    def await_boot(self, machine: Machine, limit_s: float = BOOT_S) -> float:
        """Wait until the machine has booted and takes commands; gives the seconds."""
        start_s = time.monotonic()
        said = ""
        while time.monotonic() - start_s < limit_s:
            status, said = self.attempt(machine, "systemctl is-system-running --wait; true", 30)
            if status == 0 and said.strip() in ("running", "degraded"):
                return time.monotonic() - start_s
            time.sleep(0.2)
        console = "\n".join(machine.console().splitlines()[-20:])
        raise TrialError(f"{machine.name} has not booted within {limit_s:g} s: {said.strip()}\n{console}")


def _cgroup_directories(name: str) -> list[Path]:
    """Where a cgroup of this name is, whatever mounts of version 2 this machine has."""
    mounts: Mapping[str, str] = {
        line.split()[1]: line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()
    }
    roots = [Path(where) for where, kind in mounts.items() if kind == "cgroup2"]
    return [root / name for root in roots if (root / name).is_dir()]
