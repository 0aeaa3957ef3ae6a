"""A trial that is killed when its machine has just booted: `python -m tests.deploy.crash`. What it leaves the next run
clears away."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.deploy.image import base_image
from tests.deploy.lan import Lan
from tests.deploy.machine import Machine, Ssh


def main() -> None:
    """Boot a machine, say by which pid its things are known, and be killed."""
    image, _ = base_image()
    directory = Path(tempfile.mkdtemp(prefix=f"kgm-{os.getpid()}-deploy-"))
    lan = Lan()
    ssh = Ssh(lan, directory)
    machine = Machine(lan, image, directory, "a", 1)
    machine.write("root/.ssh/authorized_keys", ssh.public, 0o600)
    machine.boot()
    ssh.await_boot(machine)
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
