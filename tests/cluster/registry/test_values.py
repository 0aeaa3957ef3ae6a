from __future__ import annotations

import pytest

from cluster.registry.values import InstanceEntry, Placement, ProgramEntry


def test_an_instance_is_named_by_program_and_node() -> None:
    assert str(Placement("redis", "n1")) == "redis@n1"
    assert Placement.parse("redis@n1") == Placement("redis", "n1")


@pytest.mark.parametrize("text", ["redis", "redis@", "@n1", "Redis@n1", "redis@n1@n2", "redis@-n1", "re dis@n1", ""])
def test_what_names_no_instance_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Placement.parse(text)


def test_an_entry_finds_its_instances() -> None:
    one = InstanceEntry("redis@n1", "n1", "primary", "running")
    two = InstanceEntry("redis@n2", "n2", "mirror", "syncing")
    entry = ProgramEntry("redis", "/etc/redis.toml", "0" * 64, primary="n1", instances=(one, two))
    assert entry.primary_instance == one
    assert entry.instance_on("n2") == two
    assert entry.instance_on("n3") is None
