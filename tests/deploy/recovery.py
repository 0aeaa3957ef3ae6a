"""What is left when all is lost: a backup of every node."""

from __future__ import annotations

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
