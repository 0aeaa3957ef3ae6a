"""Bad input: what the playbooks refuse, before anything is changed on any machine. All of it on bare machines."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kagemusha.demo.namespace import NAMED_NAMESPACES
from tests.deploy.ansible import PROGRAM_ADDRESS, REDIS, ROOT
from tests.deploy.errors import TrialError
from tests.deploy.lan import INTERFACE
from tests.deploy.trial import Figures, Trial
from tests.leftovers import clear

TOUCHED: Final = "ls -d /opt/kagemusha /etc/kagemusha /etc/systemd/system/kagemusha* 2>/dev/null; true"
PLACES: Final = (
    NAMED_NAMESPACES,
    Path(tempfile.gettempdir()),
    Path("/sys/fs/cgroup"),
    Path("/sys/fs/cgroup/unified"),
)
OLD_KERNEL: Final = '#!/bin/sh\nexec setarch x86_64 --uname-2.6 /usr/bin/python3 "$@"\n'
WRONG_CLOCK: Final = '#!/bin/sh\nexec faketime -f +90s /usr/bin/python3 "$@"\n'
MISTAKEN: Final = '[program]\nid = "redis"\n'
ELSEWHERE: Final = str(REDIS["definition"]).replace('"eth0"', '"ens3"')


def refuse_bad_input(trial: Trial) -> Figures:
    """Each of them stops with its remedy, and no machine has been touched."""
    count = 0
    for _, arrange, words, undo in CASES:
        variables = arrange(trial)
        try:
            outcome = trial.operator.attempt("site", **variables)
        finally:
            undo(trial)
            trial.operator.write_inventory(trial.machines)
        _require_refused(trial, outcome.status, outcome.said, words)
        count += 1
    return {"refused": count}


def tell_the_truth(trial: Trial) -> Figures:
    """--check on bare machines says that much is to be changed, changes nothing, and does not fail."""
    outcome = trial.operator.run("site", "--check")
    for machine in trial.machines.values():
        if left := trial.ssh.run(machine, TOUCHED).strip():
            raise TrialError(f"--check has changed {machine.name}: {left}")
    if any(count == 0 for count in outcome.changed.values()):
        raise TrialError(f"--check says that nothing is to be changed: {dict(outcome.changed)}")
    if trial.operator.authority.exists():
        raise TrialError("--check has made an authority")
    return {"would_change": outcome.changes}


def go_on_after_half(trial: Trial) -> Figures:
    """A run that ended in the middle, on one machine with a half installed release: the next one ends it."""
    machine = trial.machines["b"]
    trial.ssh.run(machine, "mkdir -p /opt/kagemusha/releases/0.1.0-unfinished/bin /etc/kagemusha")
    release = trial.operator.release()
    trial.ssh.run(
        machine, f"mkdir -p /opt/kagemusha/releases/{release}/bin && touch /opt/kagemusha/releases/{release}/bin/pip"
    )
    return {"left_behind_on": machine.name}


def clear_after_crash(trial: Trial) -> Figures:
    """A trial that was killed leaves a machine that runs; the next one clears it away, and nothing of another one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.deploy.crash"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    pid = done.stdout.strip()
    if not pid:
        raise TrialError(f"the trial that is to be killed does not get there: {done.stderr[-500:]}")
    cleared = [one for one in clear() if f"kgm-{pid}-" in one]
    left = [str(path) for place in PLACES for path in place.glob(f"kgm-{pid}-*")]
    if left or not cleared:
        raise TrialError(f"cleared away: {cleared}; left: {left}")
    for machine in trial.machines.values():
        trial.ssh.run(machine, "true")
    return {"cleared": len(cleared)}


def _require_refused(trial: Trial, status: int, said: str, words: str) -> None:
    if status == 0:
        raise TrialError(f"what should be refused with {words!r} is not")
    plain = " ".join(said.split())
    if words not in plain:
        raise TrialError(f"the refusal does not say {words!r}: {plain[-1500:]}")
    for machine in trial.machines.values():
        status, left = trial.ssh.attempt(machine, TOUCHED)
        if status == 0 and left.strip():
            raise TrialError(f"refused with {words!r}, but {machine.name} has {left.strip()}")


def _nothing(trial: Trial) -> None:
    """Nothing to be undone."""


def _host_that_is_not_there(trial: Trial) -> dict[str, Any]:
    trial.operator.write_inventory(trial.machines, hosts={"c": {"ansible_host": "10.78.0.77"}})
    return {}


def _python(trial: Trial, text: str) -> dict[str, Any]:
    trial.ssh.run(
        trial.machines["c"], f"cat > /usr/local/bin/odd-python <<'END'\n{text}END\nchmod 755 /usr/local/bin/odd-python"
    )
    odd = {"ansible_host": trial.machines["c"].address, "ansible_python_interpreter": "/usr/local/bin/odd-python"}
    trial.operator.write_inventory(trial.machines, hosts={"c": odd})
    return {}


def _address_in_use(trial: Trial) -> dict[str, Any]:
    trial.lan.client.ip(f"addr add {PROGRAM_ADDRESS}/24 dev {INTERFACE}")
    return {}


def _address_free(trial: Trial) -> None:
    trial.lan.client.ip(f"addr del {PROGRAM_ADDRESS}/24 dev {INTERFACE}")


def _port_in_use(trial: Trial) -> dict[str, Any]:
    unit = "systemd-run --unit=squatter python3 -m http.server 7401"
    trial.ssh.run(trial.machines["b"], f"{unit} && until ss -ltn | grep -q :7401; do sleep 0.1; done")
    return {}


def _port_free(trial: Trial) -> None:
    trial.ssh.run(trial.machines["b"], "systemctl stop squatter")


def _without_cluster(trial: Trial) -> dict[str, Any]:
    trial.operator.write_inventory(trial.machines, without="kagemusha_cluster")
    return {}


def _two_nodes(trial: Trial) -> dict[str, Any]:
    trial.operator.write_inventory({name: trial.machines[name] for name in ("a", "b")})
    return {}


def _program(**other: str) -> Callable[[Trial], dict[str, Any]]:
    """The trial's program, said otherwise."""

    def write(trial: Trial) -> dict[str, Any]:
        trial.operator.write_inventory(trial.machines, kagemusha_programs=[{**REDIS, **other}])
        return {}

    return write


def _adopting(unit: str) -> Callable[[Trial], dict[str, Any]]:
    def write(trial: Trial) -> dict[str, Any]:
        trial.operator.write_inventory(trial.machines, kagemusha_programs=[{"id": "other", "adopt": unit}])
        return {}

    return write


Case = tuple[str, Callable[[Trial], dict[str, Any]], str, Callable[[Trial], None]]
CASES: Final[tuple[Case, ...]] = (
    ("a host that can't be reached", _host_that_is_not_there, "UNREACHABLE", _nothing),
    ("a kernel that is too old", lambda t: _python(t, OLD_KERNEL), "6.7 is the first with PAGEMAP_SCAN", _nothing),
    ("a clock that is wrong", lambda t: _python(t, WRONG_CLOCK), "Have both follow a time source", _nothing),
    ("an address in use", _address_in_use, f"{PROGRAM_ADDRESS}: used by", _address_free),
    ("a port in use", _port_in_use, "port 7401 is used by python3", _port_free),
    ("a variable that is missing", _without_cluster, "missing required arguments: kagemusha_cluster", _nothing),
    ("no dist", lambda t: {"kagemusha_dist": "/nowhere"}, "Run make dist", _nothing),
    ("no command", lambda t: {"kagemusha_command": "kagemushi"}, "Have .venv/bin of the clone in PATH", _nothing),
    ("two nodes", _two_nodes, "name a third one", _nothing),
    ("a mistaken definition", _program(definition=MISTAKEN), "program.command: missing; hint: add it", _nothing),
    ("another id", _program(id="radis"), "its definition has another id", _nothing),
    ("no interface", _program(definition=ELSEWHERE), "c has no interface ens3; it has eth0, lo", _nothing),
    ("two sources", _program(adopt="redis-server.service"), "give either its definition", _nothing),
    ("a unit that is not there", _adopting("none.service"), "no node has a unit none.service", _nothing),
    ("another Python", lambda t: {"kagemusha_python": "/usr/bin/true"}, "name it in kagemusha_python", _nothing),
)

REFUSALS: Final[tuple[Callable[[Trial], Figures], ...]] = (
    clear_after_crash,
    refuse_bad_input,
    tell_the_truth,
    go_on_after_half,
)
