"""The agent's reading of a program's file, as far as the cluster needs to know it."""

from __future__ import annotations

from pathlib import Path

from agent.program import HealthCheck
from agent.program_file import load_definition
from agent.redirect import Redirect
from cluster.health.check import Check, Exchange, Exec, Http, Question, Tcp
from cluster.node.program import Findings, ProgramFile
from cluster.redirect.redirection import Redirection
from cluster.registry.values import Policy


def read_program(path: Path) -> ProgramFile:
    """Read the file at `path`. Raises ConfigError."""
    definition = load_definition(path)
    failover, redirection = definition.failover, _redirection(definition.redirect)
    return ProgramFile(
        program=definition.program.id,
        digest=definition.digest(),
        policy=Policy(
            guarantee=definition.mirror.guarantee,
            restart="never" if failover.restart == "never" else "always",
            takeovers_max=failover.max_takeovers,
            takeovers_window_s=failover.window_s,
            exclusive=redirection.exclusive(),
        ),
        address=redirection.address,
        interface=redirection.interface,
        grace_ms=failover.grace_ms,
        checks=tuple(map(_check, definition.health)),
        redirection=redirection,
    )


def preflight(path: Path) -> Findings:
    """What stands in the way of mirroring the program of that file from and to this node, and what that node is like.

    Raises ConfigError for a file that can't be used, PreflightError where the kernel can't be probed.
    """
    from agent.preflight.check import preflight as look

    found = look(load_definition(path))
    reasons = tuple((str(reason), reason.remedy) for reason in found.reasons)
    return Findings(reasons, found.facts.to_json() if found.facts is not None else "")


def alike(first: str, facts: str, second: str, other_facts: str) -> tuple[tuple[str, str], ...]:
    """Why what runs on the node `first` could not go on on `second`, by what `preflight` said on each.

    Raises PreflightError where that is no such thing: the daemon there is of another release.
    """
    from agent.preflight.fingerprint import Fingerprint, differences

    if not facts or not other_facts:
        return ()
    one, other = Fingerprint.from_json(facts, f"node {first}"), Fingerprint.from_json(other_facts, f"node {second}")
    found = differences(one, other, f"on node {first}", f"on node {second}")
    return tuple((reason.what, reason.remedy) for reason in found)


def _redirection(redirect: Redirect | None) -> Redirection:
    if redirect is None:
        return Redirection()
    return Redirection(
        redirect.driver,
        redirect.address,
        redirect.interface,
        redirect.router_id or 0,
        redirect.listen,
        redirect.forward,
        redirect.claim,
        redirect.release,
        redirect.check,
        redirect.timeout_ms / 1000,
    )


def _check(check: HealthCheck) -> Check:
    return Check(
        _question(check),
        check.interval_ms / 1000,
        check.timeout_ms / 1000,
        check.rise,
        check.fall,
        check.start_ms / 1000,
    )


def _question(check: HealthCheck) -> Question:
    port = check.port or 0
    match check.kind:
        case "tcp":
            return Tcp(port)
        case "http":
            return Http(port, check.path)
        case "exchange":
            return Exchange(port, check.send.encode("latin-1"), check.expect.encode("latin-1"))
        case "exec":
            return Exec(check.command)
