"""What must be equal on two nodes before a process can go on from one to the other, as a value that travels as JSON.

A context holds what its kernel, its processor and its files put into it: the kernel's vdso code is part of the memory,
the saved registers have the processor's size, a running program has looked at the processor's features once and for
all, and pages that it has not touched yet come from the files of the node where it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from agent.reason import Reason
from transport.errors import PreflightError

FORMAT = 1
_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Facts of one node about one program.

    kernel: release; kernel_build: what `uname -v` says. machine: "x86_64". cpu_model: for people; it is not compared.
    cpu_flags: sorted. xstate_bytes: the size of a thread's extended registers. page_bytes. files: path -> SHA-256 of
    the executable, its interpreter and libraries. definition: digest of the program.toml.
    """

    node: str
    program: str
    definition: str
    kernel: str
    kernel_build: str
    machine: str
    cpu_model: str
    cpu_flags: tuple[str, ...]
    xstate_bytes: int
    page_bytes: int
    files: dict[str, str]

    def to_json(self) -> str:
        """The fingerprint as a JSON object, its keys sorted."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, origin: str) -> Fingerprint:
        """The fingerprint in `text`, which came from `origin`; raises PreflightError where it is none."""
        try:
            values: Any = json.loads(text)
            if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
                raise ValueError(f"no object of format {FORMAT}")
            found = cls(**{**values, "cpu_flags": tuple(values["cpu_flags"])})
            for name, value in asdict(found).items():
                if type(value) is not type(getattr(_EXAMPLE, name)):
                    raise ValueError(f"{name} has a wrong type")
            return found
        except (ValueError, TypeError, KeyError) as error:
            raise PreflightError(
                f"{origin}: is no fingerprint: {error}",
                hint="write it on the other node with: kagemusha preflight CONFIG --facts > FILE",
            ) from error


_EXAMPLE = Fingerprint("", "", "", "", "", "", "", (), 0, 0, {})


def fingerprint(program: str, definition: str, xstate_bytes: int, files: Iterable[str]) -> Fingerprint:
    """This node's fingerprint. Raises PreflightError where a file can't be read."""
    system = os.uname()
    model, flags = _processor()
    return Fingerprint(
        node=platform.node(),
        program=program,
        definition=definition,
        kernel=system.release,
        kernel_build=system.version,
        machine=system.machine,
        cpu_model=model,
        cpu_flags=flags,
        xstate_bytes=xstate_bytes,
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        files={path: _sha256(path) for path in sorted(set(files))},
    )


def differences(ours: Fingerprint, theirs: Fingerprint, here: str = "here", there: str = "there") -> list[Reason]:
    """Everything in which two nodes must not differ, and do. here, there: what to call the first and the second."""
    place = f"node {theirs.node}"
    if ours.program != theirs.program:
        what = f"the fingerprint is of program {theirs.program}, not of {ours.program}"
        return [Reason(what, place, "compare fingerprints of one program")]
    found = [
        Reason(
            f"{what} differs: {_short(getattr(ours, name))} {here}, {_short(getattr(theirs, name))} {there}",
            place,
            remedy,
        )
        for name, what, remedy in _SCALARS
        if getattr(ours, name) != getattr(theirs, name)
    ]
    found += _flag_differences(ours, theirs, place, here, there)
    return found + _file_differences(ours, theirs, place, here, there)


_SAME_KERNEL = "install the same kernel package on both nodes and reboot into it"
_SAME_CPU = "give both machines the same CPU model (in a hypervisor: the same named model for both guests)"
_SAME_PACKAGE = "install the same version of the package on both nodes"
_SCALARS = (
    ("definition", "the program.toml", "copy the same file to both nodes"),
    ("kernel", "the kernel release", _SAME_KERNEL),
    ("kernel_build", "the build of the kernel", _SAME_KERNEL),
    ("machine", "the architecture", "use two machines of one architecture"),
    ("xstate_bytes", "the size of the extended registers", _SAME_CPU),
    ("page_bytes", "the size of a page", "use two machines of one architecture"),
)


def _flag_differences(ours: Fingerprint, theirs: Fingerprint, place: str, here: str, there: str) -> list[Reason]:
    first, second = set(ours.cpu_flags), set(theirs.cpu_flags)
    return [
        Reason(f"CPU features that are only {where}: {_some(flags)}", place, _SAME_CPU)
        for where, flags in ((here, first - second), (there, second - first))
        if flags
    ]


def _file_differences(ours: Fingerprint, theirs: Fingerprint, place: str, here: str, there: str) -> list[Reason]:
    found = []
    for path in sorted(ours.files.keys() | theirs.files.keys()):
        first, second = ours.files.get(path), theirs.files.get(path)
        if first is None or second is None:
            found.append(Reason(f"{path} is used only {there if first is None else here}", place, _SAME_PACKAGE))
        elif first != second:
            what = f"{path} differs: SHA-256 {_short(first)} {here}, {_short(second)} {there}"
            found.append(Reason(what, place, _SAME_PACKAGE))
    return found


def _short(value: object) -> str:
    """A digest is known by its beginning."""
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN_MAX} more" if len(ordered) > _SHOWN_MAX else ""
    return " ".join(ordered[:_SHOWN_MAX]) + more


def _processor() -> tuple[str, tuple[str, ...]]:
    """The model's name, and the features that every processor of this machine has."""
    model = ""
    common: set[str] | None = None
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
                common = flags if common is None else common & flags
    return model, tuple(sorted(common or ()))


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PreflightError(f"{path}: can't be read: {error.strerror}") from error
