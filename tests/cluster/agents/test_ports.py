"""Agents that start at once listen at different ports, and a program's agent where the one before did."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cluster.agents.place import Place
from cluster.agents.ports import StreamPorts
from cluster.config import NodeConfig, host_and_port
from tests.cluster.cluster_of import configs
from transport.errors import ControlError


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    """Of a node whose agents have two ports."""
    first = free_pair()
    of_a = configs(tmp_path, ("a", "b"))["a"]
    return of_a.model_copy(update={"agents": of_a.agents.model_copy(update={"stream_ports": (first, first + 1)})})


def free_pair() -> int:
    """The first of two ports that nobody listens at."""
    for port in range(21_000, 30_000, 2):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two ports are free")


def test_those_who_start_at_once_get_different_ports(config: NodeConfig) -> None:
    in_use: set[int] = set()
    ports = StreamPorts(lambda: in_use)
    redis, other = Place(config, "redis"), Place(config, "other")
    with ports.reserved(redis) as one:
        with ports.reserved(other) as two:
            assert {one, two} == set(config.agents.stream_ports)
            with pytest.raises(ControlError, match="no port"), ports.reserved(redis):
                pass
        # It answers now, at its port.
        in_use.add(two)
        with pytest.raises(ControlError, match="no port"), ports.reserved(other):
            pass
    with ports.reserved(redis) as again:
        assert again == one


def test_a_port_that_somebody_has_is_passed_over(config: NodeConfig) -> None:
    place = Place(config, "redis")
    ports = StreamPorts(set)
    with ports.reserved(place) as port:
        pass
    with socket.socket() as foreign:
        foreign.bind((host_and_port(place.config.own.address)[0], port))
        foreign.listen()
        with ports.reserved(place) as another:
            assert another != port
