"""Every mistake that a node.toml can have, and the line that a person gets to read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.config import NODE_FILE, NodeConfig, host_and_port
from transport.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/cluster/node.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A node.toml that may be changed."""
    path = tmp_path / "node.toml"
    path.write_text(EXAMPLE.read_text())
    return path


def test_the_example_says_all_and_only_defaults(file: Path) -> None:
    config = NODE_FILE.load(file)
    assert config.own.address == "10.0.0.1:7400"
    assert [one.id for one in config.others] == ["b", "c"]
    shorter = re.sub(r"\[times\].*", "", EXAMPLE.read_text(), flags=re.DOTALL)
    file.write_text(shorter)
    assert NODE_FILE.load(file) == config
    for section in NodeConfig.model_fields.values():
        for name in getattr(section.annotation, "model_fields", {}):
            assert re.search(rf"^{name} =", EXAMPLE.read_text(), re.MULTILINE), name


@pytest.mark.parametrize(
    ("old", "new", "what", "hint"),
    [
        ('id = "a"', 'id = "d"', "[node] id = d is none of [[nodes]]", "a, b, c"),
        ('id = "b"', 'id = "c"', "two [[nodes]] have the id c", "a name of its own"),
        ("10.0.0.2:7401", "10.0.0.2:7400", "10.0.0.2:7400 stands in [[nodes]] twice", "a port of its own"),
        ("10.0.0.2:7401", "host:7400", 'nodes[2].raft: "host:7400" is not an address and a port', "10.0.0.1:7400"),
        ("10.0.0.2:7401", "10.0.0.2:0", "is not an address and a port", "10.0.0.1:7400"),
        ('"/run/kagemusha"', '"run"', 'node.run: "run" is no absolute path', "begin it with /"),
        ("lease_ms = 400", "lease_ms = 199", "times: lease_ms = 199 is less than 4 heartbeats", "lower heartbeat_ms"),
        ("leader_lease_ms = 300", "leader_lease_ms = 100", "leader_lease_ms = 100 is less than 4", "raise it"),
        ("drift_ppm = 1000", "drift_ppm = 50000", "margin_ms = 10 does not cover the drift", "lower drift_ppm"),
        ("[150, 300]", "[300, 150]", "times: election_ms = [300, 150] is no range", "[150, 300]"),
        ("heartbeat_ms = 50", "heartbeet_ms = 50", "times.heartbeet_ms: unknown key", "heartbeat_ms"),
        ("heartbeat_ms = 50", 'heartbeat_ms = "50"', "times.heartbeat_ms: must be a whole number", "milliseconds"),
        ("[7500, 7599]", "[7599, 7500]", "agents.stream_ports: [7599, 7500] is no range of ports", "[7500, 7599]"),
        ("epoch = 1", "epoch = 0", "cluster.epoch: must be at least 1", "key"),
    ],
)
def test_a_mistake_is_one_line(file: Path, old: str, new: str, what: str, hint: str) -> None:
    text = EXAMPLE.read_text()
    assert old in text
    file.write_text(re.sub(rf"(?m)(^|\W){re.escape(old)}", lambda found: found[1] + new, text, count=1))
    with pytest.raises(ConfigError) as refused:
        NODE_FILE.load(file)
    assert refused.value.what.startswith(f"{file}: ")
    assert what in refused.value.what
    assert hint in refused.value.hint
    assert "\n" not in refused.value.what


def test_nodes_that_differ_in_what_must_be_common_are_told_apart(file: Path) -> None:
    one = NODE_FILE.load(file)
    text = file.read_text()
    file.write_text(text.replace('id = "a"', 'id = "c"', 1).replace("7599", "7598"))
    assert NODE_FILE.load(file).membership() == one.membership()
    assert NODE_FILE.load(file).layout() == one.layout()
    file.write_text(text.replace("10.0.0.3:7401", "10.0.0.3:7411"))
    assert NODE_FILE.load(file).membership() != one.membership()
    assert NODE_FILE.load(file).layout() != one.layout()
    file.write_text(text.replace("lease_ms = 400", "lease_ms = 500", 1))
    assert NODE_FILE.load(file).membership() != one.membership()
    assert NODE_FILE.load(file).layout() == one.layout()


def test_endpoints() -> None:
    assert host_and_port("10.0.0.1:7400") == ("10.0.0.1", 7400)
    assert host_and_port("[fd00::1]:7400") == ("fd00::1", 7400)
