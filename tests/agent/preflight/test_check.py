"""Preflight of whole programs on this node."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from agent.preflight.check import Report, facts_of, preflight
from agent.program import Definition
from tests.agent.preflight.test_executable import elf32
from transport.errors import PreflightError


def definition(program: dict[str, Any] | None = None, **sections: Any) -> Definition:
    """A program that can be mirrored, changed as given."""
    usual = {"id": "sleep", "command": ["/bin/sleep", "1000"], "user": "nobody"}
    return Definition.model_validate({"program": {**usual, **(program or {})}, **sections})


def the_reason(report: Report) -> tuple[str, str]:
    """The only reason of a report as a line, and its remedy."""
    assert len(report.reasons) == 1, report.reasons
    return str(report.reasons[0]), report.reasons[0].remedy


def test_a_program_that_can_be_mirrored() -> None:
    report = preflight(definition(redirect={"driver": "address", "address": "10.0.0.9/24", "interface": "lo"}))
    assert report.reasons == []
    assert report.facts is not None
    assert os.path.realpath("/bin/sleep") in report.facts.files
    assert json.loads(json.dumps(report.as_json()))["can_be_mirrored"] is True


def test_a_command_that_does_not_exist() -> None:
    report = preflight(definition({"command": ["/opt/none"]}))
    lines = [str(reason) for reason in report.reasons]
    assert lines == [
        "program.command: /opt/none: does not exist",
        "files of the program: /opt/none: does not exist",
    ]
    assert report.facts is None


def test_a_32_bit_command(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(elf32())
    old.chmod(0o755)
    line, remedy = the_reason(preflight(definition({"command": [str(old)]})))
    assert line == f"{old}: is a 32-bit program"
    assert remedy == "use the 64-bit (x86_64) build of it"


def test_a_script_without_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "service"
    script.write_text("#!/opt/none\n")
    script.chmod(stat.S_IRWXU)
    assert "/opt/none: does not exist" in str(preflight(definition({"command": [str(script)]})).reasons[0])


def test_a_user_that_is_not_there() -> None:
    line, _ = the_reason(preflight(definition({"user": "nobody-at-all"})))
    assert line == "program.user: this node has no user 'nobody-at-all'"


def test_a_directory_that_is_not_there() -> None:
    line, remedy = the_reason(preflight(definition({"directory": "/opt/none"})))
    assert line == "program.directory: /opt/none is no directory on this node"
    assert remedy == "mkdir -p /opt/none"


def test_an_interface_that_is_not_there() -> None:
    redirect = {"driver": "address", "address": "10.0.0.9/24", "interface": "none7"}
    line, remedy = the_reason(preflight(definition(redirect=redirect)))
    assert line == "redirect.interface: this node has no interface none7"
    assert "lo" in remedy


def test_a_limit_above_what_this_node_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 40
        resource.setrlimit(resource.RLIMIT_CORE, (min(soft, hard) if soft >= 0 else hard, hard))
    found = preflight(definition(limits={"core_bytes": hard + 1})).reasons
    raising_is_allowed = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16) >> 24 & 1
    expected = [] if raising_is_allowed else [f"limits.core_bytes: is {hard + 1}, and this node allows {hard} at most"]
    assert [str(reason) for reason in found] == expected


def test_too_little_memory_for_the_image() -> None:
    line, remedy = the_reason(preflight(definition(mirror={"memory_mib_max": 1 << 24})))
    assert line.startswith("memory of this node: too little: ")
    assert remedy.startswith("free or add ")


def test_a_process_that_is_not_there() -> None:
    with pytest.raises(PreflightError, match="there is no process 4194305"):
        preflight(definition(), 4194305)


def test_a_running_program_is_looked_at() -> None:
    report = preflight(definition(), os.getpid())
    assert f"process {os.getpid()}" in [check.name for check in report.checks]
    assert report.facts is not None
    assert any(path.endswith("libc.so.6") for path in report.facts.files)


def test_another_node_that_is_alike_and_one_that_is_not() -> None:
    ours = facts_of(definition())
    assert preflight(definition(), other=dataclasses.replace(ours, node="b")).reasons == []
    line, _ = the_reason(preflight(definition(), other=dataclasses.replace(ours, node="b", kernel="6.9")))
    assert line.startswith("node b: the kernel release differs")
