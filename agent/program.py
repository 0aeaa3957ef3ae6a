"""What a program is: the model of NAME.toml, the file that defines one.

Values only: nothing here reads a file or asks the host. `agent.program_file` reads, `agent.launch.identity` resolves
users.
Every field's description is the text of the generated reference (docs/program-toml.md), so it is written for operators.
"""

from __future__ import annotations

import hashlib
import json
import re
import resource
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from agent.hooks import Hooks
from agent.redirect import Redirect
from agent.structures.table import StructureTable
from transport.settings import Misfit, Section

PID_DEFAULT = 100
DEADLINE_DEFAULT_MS = 50
INTERVAL_DEFAULT_MS = 50


def _absolute(path: str, what: str) -> str:
    if not path.startswith("/"):
        raise Misfit(f'{what} must be an absolute path, not "{path}"', "begin it with /")
    if "\0" in path:
        raise Misfit(f"{what} must not contain a NUL character", "take it out")
    return path


def _refuse_later(value: str, supported: tuple[str, ...]) -> str:
    if value not in supported:
        raise Misfit(f'"{value}" comes later', "this release has " + " and ".join(f'"{one}"' for one in supported))
    return value


class ProgramSection(Section):
    """What is started, and as whom."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")] = Field(
        description="Name of the program, the same on every node: 1 to 63 of `a-z`, `0-9`, `-`. "
        "An instance is called `<id>@<node>`."
    )
    command: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        description="The executable and its arguments. No shell; the executable is an absolute path, "
        "the same file on every node."
    )
    user: str | None = Field(
        default=None,
        description="User name or number that the program runs as. Not set: as the agent does, which is root.",
    )
    group: str | None = Field(default=None, description="Group name or number. Not set: the user's own groups.")
    environment: dict[str, str] = Field(
        default_factory=dict,
        description="All environment variables of the program. Nothing is inherited from the agent; "
        "`PATH`, `HOME`, `USER` and `LOGNAME` are set unless they are given here.",
    )
    directory: str = Field(default="/", description="Working directory at the start, an absolute path.")
    umask: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = Field(
        default="0022", description="File mode creation mask, as an octal string."
    )

    oom_score_adjust: int = Field(
        default=0,
        ge=-1000,
        le=1000,
        description="How likely the kernel ends it when memory runs out, oom_score_adj(5): -1000 never, 1000 first. "
        "The daemon and its agents have one of their own. An end for memory is taken over without a loss.",
    )

    @field_validator("command")
    @classmethod
    def _command_is_executable_by_path(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        _absolute(command[0], "the executable")
        if any("\0" in argument for argument in command):
            raise Misfit("an argument must not contain a NUL character", "take it out")
        return command

    @field_validator("directory")
    @classmethod
    def _directory_is_absolute(cls, directory: str) -> str:
        return _absolute(directory, "the working directory")

    @field_validator("environment")
    @classmethod
    def _environment_can_be_passed(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise Misfit(
                    f"{name!r} can't be passed", "a name is not empty and has no =; neither name nor value has NUL"
                )
        return environment

    @property
    def umask_bits(self) -> int:
        """The mask as umask(2) takes it."""
        return int(self.umask, 8)


LIMIT_NUMBERS = {
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "stack_bytes": resource.RLIMIT_STACK,
    "locked_memory_bytes": resource.RLIMIT_MEMLOCK,
    "address_space_bytes": resource.RLIMIT_AS,
    "data_bytes": resource.RLIMIT_DATA,
    "file_bytes": resource.RLIMIT_FSIZE,
    "core_bytes": resource.RLIMIT_CORE,
}
"""Key of `[limits]` -> `RLIMIT_*` number."""

_Limit = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Limits(Section):
    """Resource limits, setrlimit(2), soft and hard alike. What is not set stays as the agent has it."""

    open_files: _Limit | None = Field(default=None, description="Descriptors (`RLIMIT_NOFILE`).")
    processes: _Limit | None = Field(default=None, description="Threads and processes of the user (`RLIMIT_NPROC`).")
    stack_bytes: _Limit | None = Field(default=None, description="Size of the main thread's stack (`RLIMIT_STACK`).")
    locked_memory_bytes: _Limit | None = Field(default=None, description="Locked memory (`RLIMIT_MEMLOCK`).")
    address_space_bytes: _Limit | None = Field(default=None, description="Address space (`RLIMIT_AS`).")
    data_bytes: _Limit | None = Field(default=None, description="Data segment (`RLIMIT_DATA`).")
    file_bytes: _Limit | None = Field(default=None, description="Size of a file that is written (`RLIMIT_FSIZE`).")
    core_bytes: _Limit | None = Field(default=None, description="Size of a core file (`RLIMIT_CORE`).")

    def rlimits(self) -> dict[int, tuple[int, int]]:
        """`RLIMIT_*` number -> (soft, hard), of the limits that are set."""
        values = self.model_dump(exclude_none=True)
        return {LIMIT_NUMBERS[name]: (value, value) for name, value in values.items()}


class Mirror(Section):
    """How the program is mirrored."""

    mode: Literal["process", "structures"] = Field(
        default="process",
        description="`process`: the whole process, unmodified. `structures`: named data structures only, which are "
        "carried into a warm instance of the program on every other node: those of `[[structures]]`, and those that a "
        "Python program mirrors itself. `deadline_ms`, `memory_mib_max` and `[[files]]` mean nothing then.",
    )
    guarantee: Literal["async", "sync"] = Field(
        default="async",
        description="`async`: what a takeover after the loss of a node can lose is bounded and reported (staleness). "
        "`sync` (nothing that a client saw acknowledged is lost) comes later.",
    )
    interval_ms: int = Field(
        default=INTERVAL_DEFAULT_MS,
        ge=10,
        le=1000,
        description="Time from one checkpoint to the next. Shorter loses less and costs more.",
    )
    deadline_ms: int = Field(
        default=DEADLINE_DEFAULT_MS,
        ge=1,
        le=1000,
        description="A checkpoint that has stopped the program for this long is abandoned, counted and tried again. "
        "At most `interval_ms`, which is its default where that is shorter.",
    )
    codec: Literal["zstd", "lz4"] = Field(
        default="zstd",
        description="Compression of what changed: `zstd` is smaller, `lz4` takes less of the processor.",
    )
    pid: int = Field(
        default=PID_DEFAULT,
        ge=2,
        le=30000,
        description="The program's pid inside its own PID namespace, the same on every node.",
    )
    memory_mib_max: Annotated[int, Field(ge=1, le=2**24)] | None = Field(
        default=None,
        description="The most memory that the program will use. With it preflight can say before the start whether "
        "a node has room for the program and for its image.",
    )

    @model_validator(mode="before")
    @classmethod
    def _deadline_follows_interval(cls, values: Any) -> Any:
        if isinstance(values, dict) and "deadline_ms" not in values:
            interval = values.get("interval_ms", INTERVAL_DEFAULT_MS)
            if type(interval) is int and 1 <= interval < DEADLINE_DEFAULT_MS:
                return {**values, "deadline_ms": interval}
        return values

    @field_validator("guarantee")
    @classmethod
    def _guarantee_is_there(cls, guarantee: str) -> str:
        return _refuse_later(guarantee, ("async",))

    @model_validator(mode="after")
    def _deadline_within_interval(self) -> Self:
        if self.deadline_ms > self.interval_ms:
            raise Misfit(
                f"deadline_ms = {self.deadline_ms} is longer than interval_ms = {self.interval_ms}, "
                "so the program could stand still all the time",
                f"leave deadline_ms out, or set it to {self.interval_ms} at most",
            )
        return self


class FileRule(Section):
    """What a takeover does with regular files that the program has open for writing."""

    path: str = Field(
        description="Absolute path; `*` and `?` match within one name, `**` across directories. "
        "The first rule that matches counts."
    )
    rule: Literal["shared", "local", "discard", "mirror"] = Field(
        description="`shared`: the same file is reachable on every node. `local`: the file of that path on the node "
        "that takes over is used, its content is not mirrored. `discard`: it starts empty there. "
        "`mirror` (content mirrored too) comes later.",
    )

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, path: str) -> str:
        return _absolute(path, "the path")

    @field_validator("rule")
    @classmethod
    def _rule_is_there(cls, rule: str) -> str:
        return _refuse_later(rule, ("shared", "local", "discard"))

    def matches(self, path: str) -> bool:
        """Whether `path`, absolute, is one that this rule speaks of."""
        return _glob(self.path).fullmatch(path) is not None


def _glob(pattern: str) -> re.Pattern[str]:
    translation = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(translation.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)


class HealthCheck(Section):
    """How to see that the program still serves. A program of which one check has failed is fenced, and a mirror takes
    over. Checked on the node where it serves, at its address (without `[redirect]`: at 127.0.0.1)."""

    kind: Literal["exchange", "http", "tcp", "exec"] = Field(
        description="`exchange`: what is sent is answered as expected. `http`: a request is answered with 2xx or 3xx. "
        "`exec`: a command ends with 0. `tcp`: a connection can be opened; the kernel opens one even to a program that "
        "hangs, so this only sees one that does not listen."
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="Port, for `exchange`, `http` and `tcp`."
    )
    send: str = Field(
        default="",
        description="What is sent, for `exchange`; one byte for each character, up to `\\u00ff`. Empty: nothing is, "
        "the program speaks first.",
    )
    expect: str = Field(default="", description="What the answer must begin with, for `exchange`.")
    path: str = Field(default="/", description="Path of the request, for `http`.")
    command: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Command and arguments, no shell, for `exec`. Run as the node's daemon is, which is root: the "
        "executable must belong to root and be writable by nobody else. It knows `KAGEMUSHA_PROGRAM`, "
        "`KAGEMUSHA_ADDRESS` and `KAGEMUSHA_PID`.",
    )
    interval_ms: int = Field(default=1000, ge=50, le=3_600_000, description="Time from one check to the next.")
    timeout_ms: int = Field(
        default=500,
        ge=10,
        le=3_600_000,
        description="A check that takes longer has failed, and is ended. Less than `interval_ms`.",
    )
    rise: int = Field(default=2, ge=1, le=100, description="Good checks in a row until the program counts as healthy.")
    fall: int = Field(default=3, ge=1, le=100, description="Failed checks in a row until it counts as failed.")
    start_ms: int = Field(
        default=30_000,
        ge=0,
        le=3_600_000,
        description="After a start without a context, failed checks do not count for so long, or until the first good "
        "one: a program may have to load its data. A takeover has no such time.",
    )

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> Self:
        if self.kind != "exec" and self.port is None:
            raise Misfit(f'kind = "{self.kind}" needs port', "port = 6379, say")
        if self.kind == "exchange" and not self.expect:
            raise Misfit('kind = "exchange" needs expect', 'send = "PING\\r\\n" and expect = "+PONG", say')
        if self.kind == "exec":
            if not self.command:
                raise Misfit('kind = "exec" needs command', 'command = ["/usr/bin/redis-cli", "ping"], say')
            _absolute(self.command[0], "the executable")
        if self.timeout_ms >= self.interval_ms:
            raise Misfit(
                f"timeout_ms = {self.timeout_ms} is not less than interval_ms = {self.interval_ms}",
                "a check must have ended before the next one begins",
            )
        return self

    @model_validator(mode="after")
    def _has_nothing_of_another_kind(self) -> Self:
        belongs = {"port": {"exchange", "http", "tcp"}, "send": {"exchange"}, "expect": {"exchange"}}
        belongs |= {"path": {"http"}, "command": {"exec"}}
        for key, kinds in belongs.items():
            if key in self.model_fields_set and self.kind not in kinds:
                homes = " or ".join(f'kind = "{kind}"' for kind in sorted(kinds))
                raise Misfit(f'{key} means nothing to kind = "{self.kind}"', f"leave it out; it is for {homes}")
        return self

    @field_validator("send", "expect")
    @classmethod
    def _is_made_of_bytes(cls, text: str) -> str:
        if any(ord(character) > 0xFF for character in text):
            raise Misfit("a character above \\u00ff is not one byte", "write its bytes one by one, as \\u00XX")
        return text

    @field_validator("path")
    @classmethod
    def _path_can_be_asked_for(cls, path: str) -> str:
        if not path.startswith("/") or not path.isascii() or any(character <= " " for character in path):
            raise Misfit(f"{path!r} is no path of a request", 'begin it with "/", and write other characters as %XX')
        return path

    @field_validator("command")
    @classmethod
    def _command_can_be_passed(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if any("\0" in argument for argument in command):
            raise Misfit("an argument must not contain a NUL character", "take it out")
        return command


class Failover(Section):
    """What happens when the program fails, or is stopped."""

    restart: Literal["always", "on-failure", "never"] = Field(
        default="on-failure", description="Whether the program is started anew where no mirror can take over."
    )
    max_takeovers: int = Field(
        default=3, ge=1, le=1000, description="After so many takeovers within `window_s` it is restarted clean instead."
    )
    window_s: int = Field(default=600, ge=1, le=86_400, description="The time over which takeovers are counted.")
    grace_ms: int = Field(
        default=10_000, ge=0, le=3_600_000, description="Time from SIGTERM to SIGKILL when the program is stopped."
    )


def _require_part_of_the_whole(table: StructureTable, mirror: Mirror) -> None:
    """Of a program that is mirrored as a whole a structure is part of each checkpoint, and may be read in between."""
    if table.python is not None:
        hint = 'write mode = "structures" into [mirror], or leave it out: the whole process is mirrored'
        raise Misfit(f'python of structure {table.title} needs mode = "structures"', hint)
    if table.interval_ms is None:
        given = [key for key in ("independent", "consistency") if key in table.model_fields_set]
        if given:
            raise Misfit(
                f"{given[0]} of structure {table.title} means nothing without interval_ms",
                f"give it one shorter than that of [mirror], {mirror.interval_ms}, or leave {given[0]} out",
            )
    elif table.interval_ms >= mirror.interval_ms:
        raise Misfit(
            f"interval_ms = {table.interval_ms} of structure {table.title} is not shorter than that of [mirror], "
            f"{mirror.interval_ms}",
            "leave it out: the structure is in each checkpoint",
        )


class Definition(Section):
    """A whole NAME.toml."""

    program: ProgramSection
    limits: Limits = Field(default_factory=Limits)
    mirror: Mirror = Field(default_factory=Mirror)
    files: Annotated[tuple[FileRule, ...], Field(strict=False)] = Field(
        default=(), description="A list of tables: one `[[files]]` for each rule."
    )
    health: Annotated[tuple[HealthCheck, ...], Field(strict=False, max_length=16)] = Field(
        default=(), description="A list of tables: one `[[health]]` for each check."
    )
    redirect: Redirect | None = None
    failover: Failover = Field(default_factory=Failover)
    structures: Annotated[tuple[StructureTable, ...], Field(strict=False, max_length=64)] = Field(
        default=(), description="A list of tables: one `[[structures]]` for each structure."
    )

    hooks: Hooks = Field(default_factory=Hooks)

    @model_validator(mode="after")
    def _mode_has_what_belongs_to_it(self) -> Self:
        if self.mirror.mode == "structures":
            for one in self.structures:
                if "independent" in one.model_fields_set:
                    raise Misfit(
                        f'independent of structure {one.title} needs mode = "process"',
                        "leave it out: in this mode each structure is",
                    )
            return self
        for one in self.structures:
            _require_part_of_the_whole(one, self.mirror)
        if self.hooks.model_fields_set:
            raise Misfit('[hooks] needs mode = "structures"', "a whole process goes on without noticing; leave it out")
        return self

    @field_validator("structures")
    @classmethod
    def _structures_have_names_of_their_own(cls, structures: tuple[StructureTable, ...]) -> tuple[StructureTable, ...]:
        titles = [one.title for one in structures]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise Misfit(f"two structures are called {twice[0]}", 'give one of them a name: name = "other", say')
        return structures

    def rule_for(self, path: str) -> str | None:
        """The rule for the regular file at `path`, or None if no rule speaks of it."""
        return next((file.rule for file in self.files if file.matches(path)), None)

    def digest(self) -> str:
        """SHA-256 of the meaning of the file (comments and order of keys do not count), in hex.

        Keys at their defaults do not count either: a release that knows more keys than the one before, with which it
        mirrors during an upgrade, finds the same.
        """
        meaning = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
