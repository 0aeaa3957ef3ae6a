"""Playbooks, run from the trial's client as an operator runs them, and what they say at their end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.errors import TrialError
from tests.deploy.lan import INTERFACE, Lan
from tests.deploy.machine import Machine, Ssh
from tests.deploy.shell import attempt

ROOT: Final = Path(__file__).resolve().parents[2]
DIRECTORY: Final = ROOT / "deploy" / "ansible"
COMMANDS: Final = ROOT / ".venv" / "ansible" / "bin"
PROGRAM_ADDRESS: Final = "10.78.0.100"
_RECAP: Final = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
_REDIS: Final = f"""
[program]
id = "redis"
command = [
    "/usr/bin/redis-server",
    "--bind", "0.0.0.0", "--port", "6379", "--protected-mode", "no",
    "--save", "", "--appendonly", "no",
]
user = "redis"
directory = "/var/lib/redis"

[limits]
open_files = 10032

[mirror]
interval_ms = 100

# It is killed again and again, and no state of its own is the reason.
[failover]
max_takeovers = 1000

[redirect]
driver = "address"
address = "{PROGRAM_ADDRESS}/24"
interface = "{INTERFACE}"
"""
REDIS: Final = {
    "id": "redis",
    "packages": ["redis-server"],
    "replaces": "redis-server.service",
    "definition": _REDIS,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a playbook said. changed: tasks that changed something, by host; all of them: `changes`."""

    status: int
    said: str
    changed: Mapping[str, int]
    took_s: float

    @property
    def changes(self) -> int:
        """How much was changed, on all hosts together."""
        return sum(self.changed.values())


class Operator:
    """Somebody at the client with the project's clone, an inventory and an authority's directory."""

    def __init__(self, lan: Lan, ssh: Ssh, directory: Path, dist: Path) -> None:
        self.authority = directory / "authority"
        self.epoch = 1
        self.programs: list[Mapping[str, Any]] = [REDIS]
        self.dist = dist
        self.log = directory / "ansible.log"
        self._lan = lan
        self._ssh = ssh
        self._inventory = directory / "inventory.yml"

    def release(self) -> str:
        """What `make dist` made, as nodes call it."""
        return str(json.loads((self.dist / "manifest.json").read_text())["release"])

    def write_inventory(
        self,
        machines: Mapping[str, Machine],
        hosts: Mapping[str, Mapping[str, str]] | None = None,
        without: str = "",
        **extra: Any,
    ) -> None:
        """The example's inventory, for these machines. hosts: of some, other settings than their address. without: a
        variable that is missing. extra: variables of all."""
        variables = {
            "ansible_user": "root",
            "ansible_ssh_common_args": " ".join(self._ssh.options),
            "kagemusha_cluster": "trial",
            "kagemusha_command": str(ROOT / ".venv/bin/kagemusha"),
            "kagemusha_dist": str(self.dist),
            "kagemusha_authority": str(self.authority),
            # Containers have the clock of this machine, and whether that is kept right is not the trial's affair.
            "kagemusha_time_source_required": False,
            "kagemusha_epoch": self.epoch,
            "kagemusha_programs": [dict(program) for program in self.programs],
            **extra,
        }
        variables.pop(without, None)
        plain = {name: {"ansible_host": machine.address} for name, machine in machines.items()}
        group = {"hosts": {**plain, **(hosts or {})}, "vars": variables}
        self._inventory.write_text(yaml.safe_dump({"kagemusha": group}))

    def attempt(self, playbook: str, *arguments: str, timeout_s: float = 900.0, **variables: Any) -> Outcome:
        """Run a playbook of the collection."""
        start_s = time.monotonic()
        command = self._command(playbook, *arguments, **variables)
        status, said = attempt(command, timeout_s=timeout_s, env=self._environment(), cwd=DIRECTORY)
        self._note(f"{playbook} {' '.join(arguments)} {variables}", said)
        changed = {name: int(count) for name, _, count, _, _ in _RECAP.findall(said)}
        return Outcome(status, said, changed, time.monotonic() - start_s)

    def interrupt(self, playbook: str, task: str, host: str, timeout_s: float = 900.0, **variables: Any) -> str:
        """Run a playbook, and kill it as soon as it says that this task has changed something on `host`. Gives what it
        said. Raises TrialError when it ends before."""
        said, now = "", ""
        with subprocess.Popen(
            self._command(playbook, **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            cwd=DIRECTORY,
            start_new_session=True,
        ) as process:
            kill = partial(os.killpg, process.pid, signal.SIGKILL)
            limit = threading.Timer(timeout_s, kill)
            limit.start()
            for line in process.stdout or ():
                said += line
                now = line if line.startswith("TASK ") else now
                if task in now and re.match(rf"changed: \[{host}[\] ]", line):
                    kill()
                    break
            else:
                now = ""
            limit.cancel()
        self._note(f"{playbook} {variables}, killed in its task {task!r} on {host}", said)
        if not now:
            raise TrialError(f"{playbook} ends before it changes something by {task!r} on {host}: {failure(said)}")
        return said

    def _command(self, playbook: str, *arguments: str, **variables: Any) -> list[str]:
        argv = [str(COMMANDS / "ansible-playbook"), "-i", str(self._inventory), f"kagemusha.cluster.{playbook}"]
        if variables:
            argv += ["-e", yaml.safe_dump(variables, default_flow_style=True, width=10_000).strip()]
        return self._lan.command(*argv, *arguments)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{COMMANDS}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(DIRECTORY / "ansible.cfg"),
            "ANSIBLE_HOME": str(self._inventory.parent / "ansible"),
            # Connections are kept by address, and the machines of another trial have the same ones.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._inventory.parent / "cp"),
            "ANSIBLE_FORCE_COLOR": "0",
            "LC_ALL": "C.UTF-8",
        }

    def _note(self, command: str, said: str) -> None:
        with self.log.open("a") as log:
            log.write(f"$ {command}\n{said}\n")

    def run(self, playbook: str, *arguments: str, timeout_s: float = 900.0, **variables: Any) -> Outcome:
        """The same; TrialError when it fails."""
        outcome = self.attempt(playbook, *arguments, timeout_s=timeout_s, **variables)
        if outcome.status:
            raise TrialError(f"{playbook} fails: {failure(outcome.said)}", hint=f"see {self.log}")
        return outcome


def failure(said: str) -> str:
    """The part of what ansible-playbook wrote that says why it failed."""
    start = max(said.rfind("\nfatal:"), said.rfind("[ERROR]"), said.rfind("UNREACHABLE"))
    return said[max(start, 0) :].partition("\nPLAY RECAP")[0].strip()[:2000]
