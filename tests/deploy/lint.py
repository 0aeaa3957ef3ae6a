"""`make lint-deploy`: what can be said of the deployment without a machine to deploy to.

ansible-lint with the production profile (it checks syntax, too), and systemd's own look at the units.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.deploy.ansible import COMMANDS, DIRECTORY, ROOT

COLLECTION = DIRECTORY / "ansible_collections" / "kagemusha" / "cluster"
UNITS = ("kagemusha.service", "kagemusha-watchdog.service", "kagemusha-drain.service")


def lint() -> int:
    """ansible-lint's exit status."""
    environment = {
        **os.environ,
        "PATH": f"{COMMANDS}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(DIRECTORY),
        "NO_COLOR": "1",
    }
    with tempfile.TemporaryDirectory() as home:
        environment["ANSIBLE_HOME"] = home
        command = [str(COMMANDS / "ansible-lint"), "--offline", "--strict", "--profile", "production"]
        return subprocess.run(command, cwd=COLLECTION, env=environment, check=False).returncode


def complaints(unit: str) -> list[str]:
    """What `systemd-analyze verify` has against a unit; that its program is not installed here is none of it."""
    with tempfile.TemporaryDirectory() as directory:
        for name in UNITS:
            text = (ROOT / "deploy/systemd" / name).read_text()
            Path(directory, name).write_text(text.replace("/opt/kagemusha/current/bin/kagemusha", sys.executable))
        command = ["systemd-analyze", "verify", "--man=no", str(Path(directory, unit))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [line for line in (done.stderr + done.stdout).splitlines() if "kagemusha" in line]


def main() -> int:
    """Both; gives the exit status."""
    status = lint()
    if shutil.which("systemd-analyze"):
        for unit in UNITS:
            for line in complaints(unit):
                sys.stderr.write(f"{line}\n")
                status = status or 1
    return status


if __name__ == "__main__":
    sys.exit(main())
