"""What is left when all is lost: a backup of every node, and a cluster that is made of one of them."""

from __future__ import annotations

from tests.deploy.adoption import SETTINGS
from tests.deploy.requirements import require
from tests.deploy.trial import NAMES, Figures, Trial


def back_up(trial: Trial) -> Figures:
    """The registry and certificates of every node come to the operator, for nobody else to read."""
    place = trial.directory / "backup"
    trial.operator.run("backup", kagemusha_backup=str(place))
    files = sorted(place.glob("*.tar.gz"))
    require(len(files) == len(NAMES), f"a file of each node, not {files}")
    require(place.stat().st_mode & 0o077 == 0, "a directory for nobody else")
    return {"bytes": sum(path.stat().st_size for path in files)}


def restore(trial: Trial) -> Figures:
    """No machine is left; three bare ones get the registry of one backup, and serve what was served before."""
    before = {name: trial.program(name)["token"] for name in trial.names()}
    backup = min((trial.directory / "backup").glob("*.tar.gz"))
    for machine in trial.machines.values():
        machine.close()
    for number, name in enumerate(NAMES, 1):
        trial.add(name, number, disk="restored")
    for machine in trial.machines.values():
        trial.ssh.await_boot(machine)
        trial.ssh.run(machine, SETTINGS)
    trial.operator.write_inventory(trial.machines)
    refused = trial.operator.attempt("restore", kagemusha_restore=str(backup))
    require(refused.status != 0 and "Write kagemusha_epoch:" in refused.said, "a refusal without another epoch")
    require(refused.changes == 0, "nothing changed by what was refused")
    trial.operator.epoch += 1
    trial.operator.write_inventory(trial.machines)
    outcome = trial.operator.run("restore", kagemusha_restore=str(backup))
    require(set(trial.names()) == set(before), f"the programs {sorted(before)}, not {trial.names()}")
    for name, token in before.items():
        trial.await_mirrored(2, name=name)
        require(trial.program(name)["token"] > token, f"{name} under a token above {token}")
    again = trial.operator.attempt("restore", kagemusha_restore=str(backup))
    require("would forget it" in " ".join(again.said.split()), "a refusal where there is a registry")
    return {"took_s": outcome.took_s, "programs": len(before)}
