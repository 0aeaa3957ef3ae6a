"""What is read of an inventory, what is refused, and that nothing is touched without the cluster's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaos.deployed.command import RefusedError, may_be_taken_over, may_harm, service_of
from tests.chaos.deployed.faults import SITE_FAULTS, SITE_KINDS, possible
from tests.chaos.deployed.inventory import Inventory, InventoryError, read_inventory
from tests.chaos.faults.all import FAULTS
from tests.chaos.plan import TARGETS, Plan, Step, Strike

EXAMPLE = Path(__file__).parents[3] / "deploy/ansible/inventory/example.yml"
DEFINITION = '[redirect]\ndriver = "keepalived"\naddress = "10.0.0.9/24"\n'
VARIABLES = {
    "kagemusha_cluster": "one",
    "kagemusha_authority": "/keys",
    "kagemusha_programs": [{"id": "redis", "definition": DEFINITION}],
}


def written(path: Path, variables: Mapping[str, Any], hosts: Any = None) -> Path:
    """An inventory."""
    file = path / "inventory.yml"
    group = {"hosts": {"a": None} if hosts is None else hosts, "vars": dict(variables)}
    file.write_text(yaml.safe_dump({"kagemusha": group}))
    return file


def test_the_example_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    inventory = read_inventory(EXAMPLE)
    assert inventory.cluster == "example"
    assert inventory.authority == Path("/home/me/kagemusha-example")
    assert {name: machine.api for name, machine in inventory.machines.items()} == {
        "a": "10.0.0.1:7402",
        "b": "10.0.0.2:7402",
        "c": "10.0.0.3:7402",
    }
    assert inventory.machines["a"].ssh[-1] == "root@10.0.0.1"
    service = service_of(inventory, "redis", 6379)
    assert (service.served.address, service.served.driver) == ("10.0.0.100", "address")


def test_a_host_may_say_otherwise_than_its_group(tmp_path: Path) -> None:
    hosts = {"a": {"ansible_host": "h", "ansible_port": 2222, "kagemusha_address": "10.1.1.1", "ansible_user": "me"}}
    ports = {"kagemusha_ports": {"nodes": 1, "raft": 2, "api": 3}, "ansible_ssh_common_args": "-o 'User Known=x'"}
    machine = read_inventory(written(tmp_path, {**VARIABLES, **ports}, hosts)).machines["a"]
    assert (machine.address, machine.api) == ("10.1.1.1", "10.1.1.1:3")
    assert machine.ssh[-5:] == ("-p", "2222", "-o", "User Known=x", "me@h")


def test_the_group_may_be_among_children(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yml"
    group = {"hosts": {"a": {}}, "vars": {**VARIABLES}}
    file.write_text(yaml.safe_dump({"all": {"vars": {"ansible_user": "me"}, "children": {"kagemusha": group}}}))
    assert read_inventory(file).machines["a"].ssh[-1] == "me@a"


@pytest.mark.parametrize(
    ("variables", "hosts", "words"),
    [
        ({**VARIABLES, "kagemusha_cluster": None}, None, "kagemusha_cluster is missing"),
        ({**VARIABLES, "kagemusha_authority": "{{ there }}"}, None, "kagemusha_authority is a template .* --authority"),
        ({**VARIABLES, "kagemusha_programs": [{"id": "redis", "definition": "="}]}, None, "kagemusha_programs"),
        (VARIABLES, [], "no group kagemusha with hosts"),
        (VARIABLES, "text", "no group kagemusha with hosts"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, variables: Mapping[str, Any], hosts: Any, words: str) -> None:
    with pytest.raises(InventoryError, match=words):
        read_inventory(written(tmp_path, variables, hosts))


@pytest.mark.parametrize("text", ["", "[]", "a: [", "kagemusha: 1", "\0"])
def test_what_is_no_inventory_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "inventory.yml").write_text(text)
    with pytest.raises(InventoryError):
        read_inventory(tmp_path / "inventory.yml")


def test_a_program_that_is_not_there_or_has_no_address_is_no_target(tmp_path: Path) -> None:
    programs = [{"id": "mute", "definition": '[redirect]\ndriver = "exec"\n'}]
    inventory = read_inventory(written(tmp_path, {**VARIABLES, "kagemusha_programs": programs}))
    with pytest.raises(InventoryError, match="no program redis: it has mute"):
        service_of(inventory, "redis", 6379)
    with pytest.raises(InventoryError, match="no address"):
        service_of(inventory, "mute", 6379)


def test_a_program_that_is_adopted_says_its_address_itself(tmp_path: Path) -> None:
    adopted = {"id": "unit", "adopt": "a.service", "driver": "address", "address": "10.0.0.7/24"}
    inventory = read_inventory(written(tmp_path, {**VARIABLES, "kagemusha_programs": [adopted]}))
    served = service_of(inventory, "unit", 6380).served
    assert (served.address, served.driver) == ("10.0.0.7", "address")


def test_a_plan_that_may_cost_a_program_what_it_holds_is_refused(tmp_path: Path) -> None:
    often = "[failover]\nmax_takeovers = 9\n"
    programs = [
        {"id": "plain", "definition": DEFINITION},
        {"id": "often", "definition": DEFINITION + often},
        {"id": "unit", "adopt": "a.service", "address": "10.0.0.7/24", "additions": often},
    ]
    served = read_inventory(written(tmp_path, {**VARIABLES, "kagemusha_programs": programs})).programs
    strikes = (Strike("program-killed", "primary"),)
    plan = Plan(1, tuple(Step(strikes, 1.0, 1.0) for _ in range(4)))
    with pytest.raises(RefusedError, match=r"nothing was changed: plain is started without .* more than 3 times"):
        may_be_taken_over(served["plain"], plan)
    may_be_taken_over(served["plain"], plan.with_steps(plan.steps[:3]))
    may_be_taken_over(served["often"], plan)
    may_be_taken_over(served["unit"], plan)


@pytest.mark.parametrize("given", [None, "", "another", "ONE", "one "])
def test_who_does_not_name_the_cluster_harms_nothing(tmp_path: Path, given: str | None) -> None:
    inventory: Inventory = read_inventory(written(tmp_path, VARIABLES))
    with pytest.raises(RefusedError, match="nothing was changed"):
        may_harm(inventory, given)
    may_harm(inventory, "one")


def test_faults_are_those_that_every_node_has_what_is_needed_for() -> None:
    assert "cut-off" not in possible("address", frozenset())
    assert "cut-off" in possible("address", frozenset({"nft"}))
    assert not {"power-lost", "wall-clock-back", "disk-full"} & set(possible("address", frozenset({"nft", "systemd"})))
    everything = frozenset({"nft", "systemd", "own-kernel", "own-disk"})
    assert set(possible("keepalived", everything)) == set(SITE_KINDS)
    assert "track-garbage" not in possible("address", everything)


def test_a_fault_may_cost_what_the_same_one_costs_on_a_cluster_of_namespaces() -> None:
    killed, booted = SITE_FAULTS["program-killed"], SITE_FAULTS["rebooted"]
    assert (killed.targets, killed.loses, killed.driver) == (("primary",), "nothing", "")
    assert SITE_FAULTS["track-garbage"].driver == "keepalived"
    # One that is only possible here says it itself.
    assert "rebooted" not in FAULTS
    assert (booted.targets, booted.loses) == (TARGETS, "staleness")
