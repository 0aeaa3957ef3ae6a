"""A unit as a program: what of it a program.toml can say. Pure; files that it names are given as text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from kagemusha.unit.losses import Remark, losses
from kagemusha.unit.text import Unit
from kagemusha.unit.values import INFINITY, limit, number, seconds
from kagemusha.unit.words import Specifiers, expand, split, variables_of
from transport.errors import ConfigError

LIMITS: Final = {
    "LimitNOFILE": "open_files",
    "LimitNPROC": "processes",
    "LimitSTACK": "stack_bytes",
    "LimitMEMLOCK": "locked_memory_bytes",
    "LimitAS": "address_space_bytes",
    "LimitDATA": "data_bytes",
    "LimitFSIZE": "file_bytes",
    "LimitCORE": "core_bytes",
}
DIRECTORIES: Final = {
    "RuntimeDirectory": ("/run", "RUNTIME_DIRECTORY"),
    "StateDirectory": ("/var/lib", "STATE_DIRECTORY"),
    "CacheDirectory": ("/var/cache", "CACHE_DIRECTORY"),
    "LogsDirectory": ("/var/log", "LOGS_DIRECTORY"),
    "ConfigurationDirectory": ("/etc", "CONFIGURATION_DIRECTORY"),
}
"""systemd.exec(5): where each is, and the variable that tells the program."""
_RESTARTS: Final = {"always": "always", "no": "never", "": "never", "on-success": "never"}
_GRACE_DEFAULT_S: Final = 90.0
"""DefaultTimeoutStopSec of systemd-system.conf(5)."""
_GRACE_S_MAX: Final = 3600.0
_TYPES: Final = {
    "forking": "it leaves the process that was started, which counts as its end: give it the option that keeps it in "
    "the foreground",
    "oneshot": "it ends when it has done its work: there is nothing to mirror",
}
_NOTES: Final = {
    "notify": "nobody waits for it to say that it is ready; it counts as up when it runs, and [[health]] sees the rest",
    "notify-reload": "nobody waits for it to say that it is ready; it counts as up when it runs",
    "dbus": "nobody waits for its name on the bus, and a connection to the bus can't be mirrored",
}


def _urgency(remark: Remark) -> int:
    return ("change", "lost", "note").index(remark.weight)


@dataclass(frozen=True, slots=True)
class Given:
    """What a unit says of the world outside of it. files: gives the text of an EnvironmentFile's path or pattern, None
    where there is none. executable: finds a command that is no path. home: of a user, None where there is none."""

    files: Callable[[str], str | None]
    executable: Callable[[str], str | None]
    home: Callable[[str], str | None]
    host: str = ""


@dataclass(slots=True)
class Program:
    """What a program.toml can say of it. tmpfiles: lines for tmpfiles.d(5). local, undecided: patterns of files that
    are each node's own, and of those that somebody must decide on. secret: it holds what only root could read."""

    id: str
    command: list[str] = field(default_factory=list)
    user: str = ""
    group: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    umask: str = "0022"
    oom_score_adjust: int = 0
    limits: dict[str, int] = field(default_factory=dict)
    memory_mib_max: int = 0
    restart: str = "on-failure"
    grace_ms: int = 0
    tmpfiles: list[str] = field(default_factory=list)
    local: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    secret: bool = False
    remarks: list[Remark] = field(default_factory=list)


def translate(unit: Unit, given: Given, program_id: str = "") -> Program:
    """Raises ConfigError, in one line, for what can't be a program."""
    stem = unit.name.rpartition(".")[0]
    if stem.endswith("@"):
        what = f"{unit.name} is a template, and no service by itself"
        raise ConfigError(what, hint=f"name one of its instances: {stem}main.service, say")
    specifiers = Specifiers(unit.name, given.host)
    _refuse(unit)
    program = Program(program_id or _id_of(stem))
    program.user, program.group = (specifiers.expand(unit.last(key)) for key in ("User", "Group"))
    _environment(program, unit, given, specifiers)
    _directories(program, unit, specifiers)
    _command(program, unit, given, specifiers)
    _limits(program, unit)
    _times(program, unit)
    _place(program, unit, given, specifiers)
    program.remarks = sorted([*_of_type(unit), *program.remarks, *losses(unit)], key=_urgency)
    return program


def _refuse(unit: Unit) -> None:
    if not unit.names():
        hint = "a socket, timer or target can't be mirrored"
        raise ConfigError(f"{unit.name} has no section [Service]", hint=hint)
    for key in ("RootDirectory", "RootImage"):
        if unit.last(key):
            what = f"{unit.name}: {key}={unit.last(key)}: a program with a root of its own can't be mirrored"
            raise ConfigError(what, hint="install it into the node itself")
    if unit.says("DynamicUser"):
        what = f"{unit.name}: DynamicUser: its user is made by systemd, and is another on every node"
        raise ConfigError(
            what, hint="make a system user with the same number on every node, and set User= in a drop-in"
        )


def _id_of(stem: str) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", re.sub(r"\\x[0-9a-f]{2}", "-", stem).lower()).strip("-")
    if not name:
        raise ConfigError(f"{stem!r} gives no id for a program", hint="--id NAME")
    return name[:63]


def _environment(program: Program, unit: Unit, given: Given, specifiers: Specifiers) -> None:
    found: dict[str, str] = {}
    for value in unit.all("Environment"):
        for word in split(specifiers.expand(value)):
            name, sign, content = word.partition("=")
            if not sign:
                raise ConfigError(f"{unit.name}: Environment={word[:60]}: is no NAME=value")
            found[name] = content
    for value in unit.all("EnvironmentFile"):
        path = specifiers.expand(value.removeprefix("-"))
        text = given.files(path)
        if text is None and not value.startswith("-"):
            raise ConfigError(f"{unit.name}: EnvironmentFile={path}: can't be read", hint="is it on this node?")
        if text is None:
            program.remarks.append(Remark("note", f"EnvironmentFile={value}", "it is not there, and may be missing"))
            continue
        found |= variables_of(text)
        program.secret = True
        why = "its variables stand in the program's file now: adopt again when it changes"
        program.remarks.append(Remark("note", f"EnvironmentFile={value}", why))
    for value in unit.all("UnsetEnvironment"):
        for word in split(specifiers.expand(value)):
            name, sign, content = word.partition("=")
            if name in found and (not sign or found[name] == content):
                del found[name]
    program.environment = found


def _directories(program: Program, unit: Unit, specifiers: Specifiers) -> None:
    owner = f"{program.user or 'root'} {program.group or program.user or 'root'}"
    for key, (root, variable) in DIRECTORIES.items():
        names = [name for value in unit.all(key) for name in split(specifiers.expand(value))]
        paths = [f"{root}/{name.partition(':')[0]}" for name in names]
        mode = unit.last(f"{key}Mode") or "0755"
        whose = "root root" if key == "ConfigurationDirectory" else owner
        program.tmpfiles += [f"d {path} {mode.zfill(4)} {whose} -" for path in paths]
        if paths:
            program.environment.setdefault(variable, ":".join(paths))
        if key == "LogsDirectory":
            program.local += [f"{path}/**" for path in paths]
        elif key in ("StateDirectory", "CacheDirectory"):
            program.undecided += [f"{path}/**" for path in paths]
    for key in ("ReadWritePaths", "ReadWriteDirectories"):
        for value in unit.all(key):
            for path in split(specifiers.expand(value)):
                pattern = f"{path.lstrip('-+')}/**"
                kept = program.local if pattern.startswith("/var/log/") else program.undecided
                if not pattern.startswith(("/run/", "/var/run/")) and pattern not in (
                    *program.local,
                    *program.undecided,
                ):
                    kept.append(pattern)


def _command(program: Program, unit: Unit, given: Given, specifiers: Specifiers) -> None:
    lines = unit.all("ExecStart")
    if not lines:
        raise ConfigError(f"{unit.name} has no ExecStart: nothing is started by it", hint="adopt the unit that does")
    if len(lines) > 1:
        raise ConfigError(f"{unit.name} has {len(lines)} commands in ExecStart; a program is one process")
    prefix = re.match(r"[@:+!|-]*", lines[0])
    signs = prefix[0] if prefix is not None else ""
    words = split(specifiers.expand(lines[0][len(signs) :]))
    if not words or ";" in words:
        raise ConfigError(f"{unit.name}: ExecStart={lines[0][:60]}: is not one command")
    if "@" in signs:
        shown = words.pop(1) if len(words) > 1 else ""
        why = f"its name in the process list is that of its file, not {shown}"
        program.remarks.append(Remark("lost", "ExecStart=@...", why))
    if set(signs) & set("+!"):
        why = "it is started as its user, with no more rights"
        program.remarks.append(Remark("change", f"ExecStart={signs}...", why))
    if ":" not in signs:
        words, missing = expand(words, program.environment)
        for name in dict.fromkeys(missing):
            program.remarks.append(Remark("note", f"${{{name}}}", "it has no value in this unit, and is left empty"))
    if not words[0].startswith("/"):
        path = given.executable(words[0])
        if path is None:
            raise ConfigError(f"{unit.name}: ExecStart={words[0]}: is not found on this node", hint="install it first")
        words[0] = path
    program.command = words


def _limits(program: Program, unit: Unit) -> None:
    for key, name in LIMITS.items():
        text = unit.last(key)
        if not text:
            continue
        soft, hard = limit(text)
        if hard == INFINITY:
            why = "no limit can't be written: it has the limit of the agent that starts it"
            program.remarks.append(Remark("lost", f"{key}={text}", why))
            continue
        if soft != hard:
            why = f"soft and hard are alike: both are {hard}"
            program.remarks.append(Remark("note", f"{key}={text}", why))
        program.limits[name] = hard
    if score := unit.last("OOMScoreAdjust"):
        if not re.fullmatch("[+-]?[0-9]{1,4}", score):
            raise ConfigError(f"{unit.name}: OOMScoreAdjust={score}: is no number")
        program.oom_score_adjust = int(score)
    text = unit.last("MemoryMax")
    if text.endswith("%"):
        program.remarks.append(Remark("lost", f"MemoryMax={text}", "a share of the memory is no size"))
    elif text and (size := number(text)) != INFINITY:
        program.memory_mib_max = max(1, math.ceil(size / (1 << 20)))
        why = "nothing enforces it: preflight asks whether a node has room for so much (mirror.memory_mib_max)"
        program.remarks.append(Remark("note", f"MemoryMax={text}", why))


def _times(program: Program, unit: Unit) -> None:
    program.restart = _RESTARTS.get(unit.last("Restart"), "on-failure")
    if unit.last("Restart") == "on-success":
        why = "no program is started again because it ended well: restart is never"
        program.remarks.append(Remark("note", "Restart=on-success", why))
    text = unit.last("TimeoutStopSec") or unit.last("TimeoutSec")
    grace_s = seconds(text) if text else _GRACE_DEFAULT_S
    if grace_s is None or grace_s > _GRACE_S_MAX:
        program.remarks.append(Remark("note", f"TimeoutStopSec={text}", "SIGKILL comes after an hour at the latest"))
        grace_s = _GRACE_S_MAX
    program.grace_ms = round(grace_s * 1000)


def _place(program: Program, unit: Unit, given: Given, specifiers: Specifiers) -> None:
    mask = unit.last("UMask")
    if mask:
        if not re.fullmatch("0?[0-7]{1,3}", mask):
            raise ConfigError(f"{unit.name}: UMask={mask}: is no octal mask")
        program.umask = f"{int(mask, 8):04o}"
    text = specifiers.expand(unit.last("WorkingDirectory"))
    path = text.removeprefix("-")
    if path == "~":
        home = given.home(program.user or "root")
        if home is None:
            what = f"{unit.name}: WorkingDirectory=~: this node has no user {program.user or 'root'}"
            raise ConfigError(what, hint="create it with the same number on every node")
        path = home
    if text.startswith("-"):
        program.remarks.append(Remark("note", f"WorkingDirectory={text}", "it must be there on every node"))
    program.directory = path or "/"


def _of_type(unit: Unit) -> Iterator[Remark]:
    kind = unit.last("Type")
    if kind in _TYPES:
        yield Remark("change", f"Type={kind}", _TYPES[kind])
    elif kind in _NOTES:
        yield Remark("note", f"Type={kind}", _NOTES[kind])
