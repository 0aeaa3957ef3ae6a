"""What every step of the trial has: machines, an operator, a client, and a place for figures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.deploy.ansible import PROGRAM_ADDRESS, ROOT, Operator
from tests.deploy.errors import TrialError
from tests.deploy.lan import Lan
from tests.deploy.machine import Machine, Ssh
from tests.deploy.shell import run

NAMES: Final = ("a", "b", "c")
PORT: Final = 6379
Figures = dict[str, Any]


@dataclass
class Trial:
    """All of it. machines: those of the inventory."""

    lan: Lan
    ssh: Ssh
    image: Path
    directory: Path
    operator: Operator
    machines: dict[str, Machine] = field(default_factory=dict)

    def add(self, name: str, number: int, disk: str = "") -> Machine:
        """A new machine, switched on. disk: name of its disk, where it is not the machine's."""
        machine = Machine(self.lan, self.image, self.directory / disk, name, number)
        machine.write("root/.ssh/authorized_keys", self.ssh.public, 0o600)
        self.machines[name] = machine
        machine.boot()
        return machine

    def kagemusha(self, *words: str, at: str = "") -> Any:
        """What a command of kagemusha says in JSON, on a node (else the first one that is on and answers)."""
        said = ""
        for machine in [self.machines[at]] if at else list(self.machines.values()):
            command = f"kagemusha {' '.join(words)} -o json -e {machine.address}:7402"
            status, said = self.ssh.attempt(machine, command, 30)
            if status == 0:
                return json.loads(said)
        raise TrialError(f"kagemusha {' '.join(words)}: {said.strip()[-500:]}")

    def program(self, name: str = "redis") -> dict[str, Any]:
        """A program, as the cluster knows it."""
        programs: list[dict[str, Any]] = self.kagemusha("list")
        return next((one for one in programs if one["program"] == name), {"instances": [], "primary": None})

    def names(self) -> list[str]:
        """Of all programs."""
        return [str(one["program"]) for one in self.kagemusha("list")]

    def alive(self, at: str = "") -> set[str]:
        """The nodes that are heard, by this one if it is named."""
        return {str(node["node"]) for node in self.kagemusha("topology", at=at)["nodes"] if node["alive"]}

    def await_mirrored(self, mirrors: int, limit_s: float = 90.0, name: str = "redis") -> float:
        """Wait until a program has so many mirrors that are mirrored; gives the seconds."""

        def is_so() -> bool:
            found = [(one["role"], one["status"]) for one in self.program(name)["instances"]]
            return found.count(("mirror", "mirrored")) >= mirrors

        return await_so(is_so, f"{mirrors} mirrored mirrors", limit_s)

    def await_elsewhere(self, node: str, limit_s: float = 60.0) -> str:
        """Wait until redis serves on another node than this one; gives which."""
        await_so(lambda: self.program()["primary"] not in (node, None), f"takeover from {node}", limit_s)
        return str(self.program()["primary"])

    @contextmanager
    def load(self) -> Iterator[Figures]:
        """Under load; what the client saw is in the figures afterwards."""
        argv = self.lan.command(sys.executable, "-m", "tests.deploy.load", PROGRAM_ADDRESS, str(PORT))
        client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        figures: Figures = {}
        try:
            yield figures
        finally:
            out, _ = client.communicate(timeout=120)
            figures.update(json.loads(out or "{}"))

    def pid(self, name: str) -> tuple[int, str]:
        """Of redis on this node, and since when it runs: the same for as long as it was not started again."""
        instance = self.kagemusha("status", f"redis@{name}")
        pid = int(instance["pid"])
        started = self.ssh.run(self.machines[name], f"cut -d' ' -f22 /proc/{pid}/stat").strip()
        return pid, started

    def close(self) -> None:
        """Switch everything off and remove it."""
        for machine in self.machines.values():
            machine.close()
        self.lan.close()


def await_so(is_so: Callable[[], bool], what: str, limit_s: float) -> float:
    """Wait; gives the seconds. Raises TrialError after `limit_s`."""
    start_s, said = time.monotonic(), ""
    while time.monotonic() - start_s < limit_s:
        try:
            if is_so():
                return time.monotonic() - start_s
        except TrialError as error:
            said = f": {error.what}"
        time.sleep(0.2)
    raise TrialError(f"no {what} within {limit_s:g} s{said}")


def make_dist(directory: Path, version: str) -> Path:
    """`make dist` for a version; gives the directory of its wheels."""
    command = (sys.executable, str(ROOT / "deploy/make_dist.py"), "--version", version, "--out", str(directory))
    run(*command, timeout_s=400, cwd=ROOT)
    return directory / f"kagemusha-{version}"
