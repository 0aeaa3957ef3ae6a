"""Where a unit comes from: systemd, as it knows the unit with its drop-ins, or files."""

from __future__ import annotations

import glob
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

from kagemusha.unit.text import Unit, read
from kagemusha.unit.translate import Given
from transport.errors import ConfigError

SYSTEMD: Final = Path("/run/systemd/system")
"""sd_booted(3): is there where systemd runs."""
ASK_S: Final = 15.0
SEARCH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""systemd.exec(5): where it looks for a command that is no path."""


def of_systemd(name: str) -> Unit:
    """The unit as systemd has it, its drop-ins with it. Raises ConfigError for one that it does not know."""
    unit = Unit(name if "." in name else f"{name}.service")
    if not SYSTEMD.is_dir():
        raise ConfigError(
            f"{unit.name}: systemd does not run here", hint="--file PATH reads the file of a unit instead"
        )
    state = _ask("show", "--property=LoadState", "--value", "--", unit.name).strip()
    if state != "loaded":
        hint = "`systemctl list-unit-files` has all names; after a change: systemctl daemon-reload"
        raise ConfigError(f"{unit.name}: systemd says of it: {state or 'nothing'}", hint=hint)
    read(unit, _ask("cat", "--no-pager", "--", unit.name), unit.name)
    return unit


def of_file(path: Path, name: str) -> Unit:
    """The unit of a file and the drop-ins beside it. name: "": that of the file. Raises ConfigError."""
    unit = Unit(name if "." in name else f"{name}.service") if name else Unit(path.name)
    for one in (path, *sorted(path.with_name(f"{path.name}.d").glob("*.conf"))):
        try:
            read(unit, one.read_text(encoding="utf-8"), str(one))
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "is not UTF-8"
            raise ConfigError(
                f"{one}: {why}", hint="give the file of a unit, /lib/systemd/system/NAME.service"
            ) from None
    return unit


def this_node() -> Given:
    """What units say of the world, as it is here."""
    return Given(_files, lambda name: shutil.which(name, path=SEARCH), _home, socket.gethostname())


def _files(pattern: str) -> str | None:
    try:
        texts = [Path(path).read_text(encoding="utf-8") for path in sorted(glob.glob(pattern))]
    except (OSError, UnicodeDecodeError):
        return None
    return "\n".join(texts) if texts else None


def _home(user: str) -> str | None:
    try:
        return pwd.getpwuid(int(user)).pw_dir if user.isdecimal() else pwd.getpwnam(user).pw_dir
    except (KeyError, OverflowError):
        return None


def _ask(*words: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ASK_S
        )
    except FileNotFoundError:
        raise ConfigError("there is no systemctl here", hint="--file PATH reads the file of a unit instead") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"systemctl {words[0]} does not answer within {ASK_S:g} s", hint="systemctl status") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[:200] or f"exit status {done.returncode}"
        raise ConfigError(f"systemctl {words[0]}: {said}")
    return done.stdout
