"""What the collection says of itself: specs, defaults and playbooks agree, and the module reads what kernels write."""

from __future__ import annotations

import datetime
import importlib.util
import os
import re
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from kagemusha.command_line import run
from kagemusha.exit_codes import ExitCode
from tests.deploy.ansible import DIRECTORY, ROOT
from tests.deploy.lint import COLLECTION

ROLES = sorted(path.name for path in (COLLECTION / "roles").iterdir())
PLAYBOOKS = sorted((COLLECTION / "playbooks").glob("*.yml"))


def specs(role: str) -> dict[str, dict[str, Any]]:
    """The options of each entry point of a role."""
    text = (COLLECTION / "roles" / role / "meta" / "argument_specs.yml").read_text()
    return {entry: spec.get("options", {}) for entry, spec in yaml.safe_load(text)["argument_specs"].items()}


def defaults(role: str) -> dict[str, Any]:
    """The defaults of a role."""
    path = COLLECTION / "roles" / role / "defaults" / "main.yml"
    return dict(yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_says_of_a_default_is_its_default(role: str) -> None:
    actual = defaults(role)
    for entry, options in specs(role).items():
        for name, option in options.items():
            if "default" in option and name in actual:
                assert option["default"] == actual[name], f"{role}, {entry}: {name}"
            assert not (option.get("required") and name in actual), f"{role}: {name} is required and has a default"


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_described(role: str) -> None:
    for entry, options in specs(role).items():
        for name, option in options.items():
            assert {"description", "type"} <= set(option), f"{role}, {entry}: {name}"


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_playbook_uses_roles_and_parts_of_them_that_there_are(playbook: Path) -> None:
    for play in yaml.safe_load(playbook.read_text()):
        for task in play.get("tasks", []):
            included = task.get("ansible.builtin.include_role")
            if included is not None:
                role, part = included["name"].rpartition(".")[2], included.get("tasks_from", "main")
                assert (COLLECTION / "roles" / role / "tasks" / f"{part}.yml").is_file(), task["name"]


def test_a_playbook_that_brings_another_one_along_names_one_that_there_is() -> None:
    plays = [play for playbook in PLAYBOOKS for play in yaml.safe_load(playbook.read_text())]
    named = {play["ansible.builtin.import_playbook"] for play in plays if "tasks" not in play}
    assert named == {"kagemusha.cluster.nodes"}


def test_the_documents_name_playbooks_that_there_are() -> None:
    for document in (ROOT / "docs/deploy.md", ROOT / "README.md", COLLECTION / "README.md"):
        named = set(re.findall(r"kagemusha\.cluster\.(\w+)", document.read_text()))
        assert named <= {path.stem for path in PLAYBOOKS}, document


def test_the_example_says_all_that_is_required() -> None:
    example = yaml.safe_load((DIRECTORY / "inventory/example.yml").read_text())["kagemusha"]
    assert len(example["hosts"]) == 3
    required = {
        name for role in ROLES for options in specs(role).values() for name in options if options[name].get("required")
    }
    assert {name for name in required if name.startswith("kagemusha_")} <= set(example["vars"])


def loaded(name: str) -> ModuleType:
    """A module of the collection's own."""
    spec = importlib.util.spec_from_file_location(name, COLLECTION / "plugins/modules" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """What preflight looks with."""
    return loaded("node_facts")


@pytest.fixture(scope="module")
def unread() -> ModuleType:
    """What sees whether a unit goes by its files."""
    return loaded("unread")


def test_a_kernel_without_an_option_is_told_from_one_whose_options_are_not_known(module: ModuleType) -> None:
    lines = ["CONFIG_USERFAULTFD=y", "# CONFIG_TIME_NS is not set", "CONFIG_PACKET=m", "CONFIG_KCMP=n"]
    assert module.missing_options(lines, ["USERFAULTFD", "TIME_NS", "PACKET", "KCMP"]) == ["TIME_NS", "KCMP"]
    assert module.missing_options(None, ["USERFAULTFD"]) == []


def test_listeners_are_read_and_connections_are_none(module: ModuleType) -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n"
        "   1: 0100007F:1CE9 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0\n"
    )
    assert module.listeners(text) == {7400: "4711"}


def test_who_answers_for_an_address_is_read_from_the_answer(module: ModuleType) -> None:
    head = b"\x02" * 6 + b"\x04" * 6 + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2)
    packet = head + bytes.fromhex("020000000007") + bytes([10, 0, 0, 100]) + b"\x02" * 6 + bytes(4)
    assert module.answered(packet, ["10.0.0.100"]) == ("10.0.0.100", "02:00:00:00:00:07")
    assert module.answered(packet, ["10.0.0.101"]) is None
    assert module.answered(packet[:30], ["10.0.0.100"]) is None
    assert module.answered(module.arp_probe("10.0.0.100", b"\x02" * 6), ["10.0.0.100"]) is None


def test_only_the_first_processor_counts_and_its_features_are_in_order(module: ModuleType) -> None:
    text = "model name\t: A\nflags\t\t: sse avx\n\nmodel name\t: B\nflags\t\t: none\n"
    assert module.processor(text) == {"model": "A", "flags": ["avx", "sse"]}


@pytest.mark.parametrize(
    ("words", "release"),
    [
        (("/opt/kagemusha/releases/1-ab/bin/python", "-m", "kagemusha", "agent", "--program", "redis"), "1-ab"),
        (("/opt/kagemusha/releases/1-ab/bin/python3", "/opt/kagemusha/current/bin/kagemusha", "node"), "1-ab"),
        (("/opt/kagemusha/releases/1-ab/bin/python", "/opt/kagemusha/releases/1-ab/bin/pip", "install"), ""),
        (("/usr/bin/python3", "-m", "kagemusha", "agent"), ""),
        ((), ""),
    ],
)
def test_the_release_of_a_process_is_known_by_its_command_line(
    module: ModuleType, words: tuple[str, ...], release: str
) -> None:
    assert module.release_of(b"".join(word.encode() + b"\0" for word in words)) == release


def test_a_unit_has_not_read_what_is_newer_than_its_last_reload(unread: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.touch()
    at_s = file.stat().st_ctime

    def said(read_s: float, **other: str) -> dict[str, Any]:
        moment = datetime.datetime.fromtimestamp(read_s, datetime.UTC)
        shown = {
            "ActiveState": "active",
            "ConditionResult": "yes",
            "MainPID": str(os.getpid()),
            "StateChangeTimestamp": f"{moment:%a %Y-%m-%d %H:%M:%S.%f} UTC",
            **other,
        }
        files = [str(file), str(tmp_path / "none")]
        return dict(unread.judged(shown, files, "reload", other.get("directory", "")))

    assert said(at_s - 0.1)["newer"] == [str(file)]
    assert said(at_s - 0.1)["unread"]
    assert not said(at_s + 0.1)["unread"]
    # What has never run has nothing to read again: it reads all of it at its start.
    for never in ({"ConditionResult": "no"}, {"StateChangeTimestamp": ""}, {"StateChangeTimestamp": "n/a"}):
        assert not said(at_s - 0.1, **never)["unread"]
    # It has read its files, but runs from elsewhere.
    assert said(at_s + 0.1, directory="/opt/nowhere")["unread"]
    assert not said(at_s + 0.1, directory=str(Path(said(at_s)["executable"]).parent))["unread"]
    assert not said(at_s + 0.1, directory="/opt/nowhere", ActiveState="inactive")["unread"]


def test_the_example_finds_what_make_dist_makes() -> None:
    variables = yaml.safe_load((DIRECTORY / "inventory/example.yml").read_text())["kagemusha"]["vars"]
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    path = variables["kagemusha_dist"].replace("{{ playbook_dir }}", str(COLLECTION / "playbooks"))
    assert Path(path).resolve() == ROOT / "dist" / f"kagemusha-{version[1]}"


def test_the_example_s_program_can_be_used(tmp_path: Path) -> None:
    variables = yaml.safe_load((DIRECTORY / "inventory/example.yml").read_text())["kagemusha"]["vars"]
    for program in variables["kagemusha_programs"]:
        file = tmp_path / f"{program['id']}.toml"
        file.write_text(program["definition"])
        assert run(["config", "check", str(file)]) == ExitCode.OK
