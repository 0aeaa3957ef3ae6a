"""Preflight: before anything starts, what of a program or of this node can't be mirrored, and what to do about it."""

from __future__ import annotations

import os
import resource
import socket
from dataclasses import asdict, dataclass
from typing import Any

from agent.kernel import procfs
from agent.launch.identity import identity_of
from agent.preflight.executable import Executable, files_of, read_executable
from agent.preflight.fingerprint import Fingerprint, differences, fingerprint
from agent.preflight.host import Check, host_checks, privilege_check
from agent.preflight.inspection import inspect_process, mapped_files, require_process
from agent.preflight.named import structure_checks
from agent.preflight.probe import TRACING, Probe, probe_kernel
from agent.program import LIMIT_NUMBERS, Definition
from agent.reason import Reason
from transport.errors import ConfigError, PreflightError

_CAP_SYS_RESOURCE = 1 << 24


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome. checks: everything that was looked at. notes: what does not stand in the way but will be missing.
    facts: this node's fingerprint, or None where the program's files can't be read."""

    program: str
    checks: list[Check]
    notes: list[Reason]
    facts: Fingerprint | None

    @property
    def reasons(self) -> list[Reason]:
        """Everything that stands in the way."""
        return [reason for check in self.checks for reason in check.reasons]

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "program": self.program,
            "can_be_mirrored": not self.reasons,
            "checks": [{"name": one.name, "passed": one.passed, "detail": one.detail} for one in self.checks],
            "reasons": [asdict(reason) for reason in self.reasons],
            "notes": [asdict(note) for note in self.notes],
            "facts": None if self.facts is None else asdict(self.facts),
        }


def preflight(definition: Definition, pid: int | None = None, other: Fingerprint | None = None) -> Report:
    """Check this node and the program; with `pid` also what the running program has in use; with `other` whether the
    two nodes are alike.

    Nothing is started, stopped or changed. Raises PreflightError where `pid` is no process, or the kernel can't be
    probed at all.
    """
    if pid is not None:
        require_process(pid)
    if definition.mirror.mode == "structures":
        # A program of its own lives on each node: neither kernel nor files need be alike.
        named, remarks = structure_checks(definition)
        return Report(definition.program.id, _program_checks(definition) + named, remarks, None)
    if os.geteuid() != 0:
        checks = [privilege_check(os.geteuid()), *_program_checks(definition)]
        return Report(definition.program.id, checks, [], None)
    probes = probe_kernel()
    checks = host_checks(definition.mirror.memory_mib_max, pid, probes)
    named, notes = structure_checks(definition)
    checks += _program_checks(definition) + named
    if pid is not None:
        inspection = inspect_process(pid, definition.rule_for)
        notes += inspection.notes
        checks.append(_running_check(pid, inspection.refusals))
    facts = None
    try:
        facts = facts_of(definition, pid, probes)
    except PreflightError as error:
        checks.append(Check("fingerprint", "none", (Reason(error.what, "files of the program", error.hint),)))
    if facts is not None and other is not None:
        checks.append(_likeness_check(facts, other))
    return Report(definition.program.id, checks, notes, facts)


def facts_of(definition: Definition, pid: int | None = None, probes: list[Probe] | None = None) -> Fingerprint:
    """This node's fingerprint for the program. Raises PreflightError where the program's files can't be read."""
    found = probe_kernel() if probes is None else probes
    xstate_bytes = next(probe.value for probe in found if probe.name == TRACING)
    files = files_of(definition.program.command[0]) if pid is None else mapped_files(pid)
    return fingerprint(definition.program.id, definition.digest(), xstate_bytes, files)


def _program_checks(definition: Definition) -> list[Check]:
    checks = [_executable_check(definition.program.command[0]), _user_check(definition), _directory_check(definition)]
    checks += _limit_checks(definition)
    if definition.redirect is not None and definition.redirect.interface:
        checks.append(_interface_check(definition.redirect.interface))
    return checks


def _executable_check(path: str) -> Check:
    try:
        executable = read_executable(path)
        if executable.is_script:
            executable = read_executable(executable.interpreter)
    except PreflightError as error:
        return Check("executable", path, (Reason(error.what, "program.command", error.hint),))
    return Check("executable", executable.path, _architecture_reasons(executable))


def _architecture_reasons(executable: Executable) -> tuple[Reason, ...]:
    if executable.is_x86_64:
        return ()
    what = "is a 32-bit program" if executable.bits == 32 else "is not built for x86_64"
    return (Reason(what, executable.path, "use the 64-bit (x86_64) build of it"),)


def _user_check(definition: Definition) -> Check:
    try:
        identity = identity_of(definition.program)
    except ConfigError as error:
        key, _, what = error.what.partition(": ")
        return Check("user", what, (Reason(what, key, error.hint),))
    who = f"{identity.name} ({identity.uid}:{identity.gid})"
    if os.geteuid() not in (0, identity.uid):
        what = f"a node that runs as user {os.geteuid()} can start nothing as {identity.name}"
        return Check("user", who, (Reason(what, "program.user", "leave it out, or run the node as root"),))
    return Check("user", who)


def _directory_check(definition: Definition) -> Check:
    path = definition.program.directory
    if os.path.isdir(path):
        return Check("directory", path)
    reason = Reason(f"{path} is no directory on this node", "program.directory", f"mkdir -p {path}")
    return Check("directory", path, (reason,))


def _limit_checks(definition: Definition) -> list[Check]:
    """A limit above this process's own hard limit takes CAP_SYS_RESOURCE, which containers often lack."""
    if procfs.status(os.getpid()).capabilities[2] & _CAP_SYS_RESOURCE:
        return []
    checks = []
    for name, value in definition.limits.model_dump(exclude_none=True).items():
        hard = resource.getrlimit(LIMIT_NUMBERS[name])[1]
        if hard != resource.RLIM_INFINITY and value > hard:
            what = f"is {value}, and this node allows {hard} at most"
            reason = Reason(what, f"limits.{name}", "run the agent with CAP_SYS_RESOURCE, or lower the limit")
            checks.append(Check(f"limit {name}", str(value), (reason,)))
    return checks


def _interface_check(interface: str) -> Check:
    try:
        socket.if_nametoindex(interface)
    except OSError:
        present = ", ".join(name for _, name in socket.if_nameindex())
        reason = Reason(f"this node has no interface {interface}", "redirect.interface", f"it has {present}")
        return Check("interface", interface, (reason,))
    return Check("interface", interface)


def _running_check(pid: int, refusals: list[Reason]) -> Check:
    found = f"{len(refusals)} in use that can't be mirrored" if refusals else "nothing in use that can't be mirrored"
    return Check(f"process {pid}", found, tuple(refusals))


def _likeness_check(ours: Fingerprint, theirs: Fingerprint) -> Check:
    found = tuple(differences(ours, theirs))
    return Check("likeness", f"differences from {theirs.node}: {len(found)}", found)
