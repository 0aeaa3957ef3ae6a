"""Runs that end too soon, at their worst moment: killed from outside, or because one machine fails. The next run of the
same playbook ends what was begun, and clients see nothing of it but a switchover."""

from __future__ import annotations

from typing import Final

from tests.deploy.ansible import Outcome
from tests.deploy.machine import Machine
from tests.deploy.requirements import SWITCHOVER_MS_MAX, changes_nothing, kept, require
from tests.deploy.trial import NAMES, Figures, Trial

BROKEN: Final = "/etc/systemd/system/kagemusha.service.d/broken.conf"
_BREAK: Final = f"mkdir -p $(dirname {BROKEN}) && printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > {BROKEN}"
_MEND: Final = f"rm -r $(dirname {BROKEN})"
_TRUSTED: Final = "grep -c 'BEGIN CERTIFICATE' /etc/kagemusha/pki/authority.pem"
_ISSUED: Final = "openssl verify -CAfile /etc/kagemusha/pki/authority.pem /etc/kagemusha/pki/node.pem"


def go_back(trial: Trial) -> Figures:
    """The release before again: first a daemon does not start, then the run is killed, the third one ends it."""
    serving = str(trial.program()["primary"])
    failing = next(name for name in NAMES if name != serving)
    newer, takeovers = trial.operator.release(), trial.program()["takeovers"]
    trial.operator.dist = trial.directory / "kagemusha-0.1.0"
    trial.operator.write_inventory(trial.machines)
    wanted = trial.operator.release()
    with trial.load() as seen:
        trial.ssh.run(trial.machines[failing], _BREAK)
        failed = trial.operator.attempt("upgrade")
        require(failed.status != 0 and f"fatal: [{failing}]" in failed.said, f"an upgrade that ends at {failing}")
        trial.ssh.run(trial.machines[failing], _MEND)

        trial.operator.interrupt("upgrade", "Use the release", serving)
        half = trial.machines[serving]
        require(wanted in trial.ssh.run(half, "readlink /opt/kagemusha/current"), f"{wanted} in use on {serving}")
        require(_running(trial, half) == {newer}, f"{newer} still running on {serving}")
        require(serving in _drained(trial), f"{serving} drained")
        refused = trial.operator.attempt("site")
        require(refused.status != 0 and "an upgrade was interrupted there" in _plain(refused), "a refusal by site")
        require(refused.changes == 0, "nothing changed by what was refused")
        outcome = trial.operator.run("upgrade")
    for name, machine in trial.machines.items():
        require(_running(trial, machine) == {wanted}, f"{wanted} alone running on {name}")
        left = trial.ssh.run(machine, "ls /opt/kagemusha").split()
        require(left == ["before", "current", "releases"], f"nothing of a run that was interrupted on {name}: {left}")
    require(not _drained(trial), f"no node drained, not {_drained(trial)}")
    require(seen["failed"] == 0 and seen["lost"] == 0, f"no failed request: {seen}")
    require(seen["longest_ms"] < SWITCHOVER_MS_MAX, f"no longer wait than that of a switchover: {seen}")
    require(trial.program()["takeovers"] == takeovers, "no takeover that nobody had asked for")
    changes_nothing(trial.operator.run("upgrade"))
    changes_nothing(trial.operator.run("site"))
    return {"ended_in_s": outcome.took_s, "answered": seen["answered"], **kept(seen)}


def rotate_by_halves(trial: Trial) -> Figures:
    """First a machine fails a rotation, then it is killed before new certificates are read; the third one ends it."""
    serving = str(trial.program()["primary"])
    first, last = (name for name in NAMES if name != serving)
    with trial.load() as seen:
        # A file where a directory has to be.
        trial.ssh.run(trial.machines[last], "touch /etc/kagemusha/pki/new")
        failed = trial.operator.attempt("rotate")
        require(failed.status != 0 and f"fatal: [{last}]" in failed.said, f"a rotation that ends at {last}")
        trial.ssh.run(trial.machines[last], "rm /etc/kagemusha/pki/new")

        trial.operator.interrupt("rotate", "Put them in their place", first)
        for name, machine in trial.machines.items():
            require(trial.ssh.run(machine, _TRUSTED).strip() == "2", f"both authorities trusted on {name}")
            trial.ssh.run(machine, _ISSUED)
        # Half of the certificates are of the one authority, half of the other, as far as anybody has read them.
        trial.machines[first].power_off()
        trial.machines[first].boot()
        trial.ssh.await_boot(trial.machines[first])
        trial.await_mirrored(2)
        outcome = trial.operator.run("rotate")
    for name, machine in trial.machines.items():
        require(trial.ssh.run(machine, _TRUSTED).strip() == "1", f"one authority trusted on {name}")
        trial.ssh.run(machine, _ISSUED)
        require(not trial.ssh.run(machine, "ls -d /etc/kagemusha/pki/new 2>/dev/null; true"), f"no copy left on {name}")
    require(seen["failed"] == 0 and seen["lost"] == 0, f"no failed request: {seen}")
    changes_nothing(trial.operator.run("site"))
    return {"ended_in_s": outcome.took_s, **kept(seen)}


def _running(trial: Trial, machine: Machine) -> set[str]:
    """The releases that run on a machine."""
    words = trial.ssh.run(machine, "pgrep --list-full --full '^/opt/kagemusha/releases/'").split()
    return {word.split("/")[4] for word in words if word.startswith("/opt/kagemusha/releases/")}


def _drained(trial: Trial) -> set[str]:
    return {str(node["node"]) for node in trial.kagemusha("topology")["nodes"] if node["drained"]}


def _plain(outcome: Outcome) -> str:
    return " ".join(outcome.said.split())
