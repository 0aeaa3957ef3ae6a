"""The model of program.toml as values."""

from __future__ import annotations

import resource
from typing import Any

import pytest
from pydantic import ValidationError

from agent.program import Definition, FileRule

SMALLEST: dict[str, Any] = {"program": {"id": "redis", "command": ["/usr/bin/redis-server"]}}


def definition(**sections: Any) -> Definition:
    """The smallest definition with other sections added."""
    return Definition.model_validate({**SMALLEST, **sections})


def test_the_smallest_file_has_all_defaults() -> None:
    found = definition()
    assert found.mirror.interval_ms == 50
    assert found.mirror.deadline_ms == 50
    assert found.mirror.guarantee == "async"
    assert found.redirect is None
    assert found.files == ()
    assert found.program.umask_bits == 0o022


def test_a_definition_is_frozen() -> None:
    with pytest.raises(ValidationError):
        setattr(definition().mirror, "interval_ms", 10)  # noqa: B010 - the assignment itself is what is tested


def test_the_deadline_follows_a_short_interval() -> None:
    assert definition(mirror={"interval_ms": 20}).mirror.deadline_ms == 20
    assert definition(mirror={"interval_ms": 200}).mirror.deadline_ms == 50
    assert definition(mirror={"interval_ms": 20, "deadline_ms": 5}).mirror.deadline_ms == 5


def test_limits_become_what_setrlimit_takes() -> None:
    found = definition(limits={"open_files": 1024, "core_bytes": 0}).limits.rlimits()
    assert found == {resource.RLIMIT_NOFILE: (1024, 1024), resource.RLIMIT_CORE: (0, 0)}


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/var/log/redis.log", "/var/log/redis.log", True),
        ("/var/log/redis.log", "/var/log/redis_log", False),
        ("/var/log/*.log", "/var/log/redis.log", True),
        ("/var/log/*.log", "/var/log/redis/a.log", False),
        ("/var/log/?.log", "/var/log/a.log", True),
        ("/var/**", "/var/a/b/c", True),
        ("/var/**/x", "/var/x", True),
        ("/var/**/x", "/var/a/b/x", True),
        ("/var/**/x", "/var/a/b/xx", False),
        ("/a[b]", "/a[b]", True),
    ],
)
def test_patterns_of_files(pattern: str, path: str, matches: bool) -> None:
    assert FileRule(path=pattern, rule="local").matches(path) is matches


def test_the_first_rule_that_matches_counts() -> None:
    rules = [{"path": "/var/log/redis.log", "rule": "local"}, {"path": "/var/**", "rule": "discard"}]
    found = definition(files=rules)
    assert found.rule_for("/var/log/redis.log") == "local"
    assert found.rule_for("/var/log/other.log") == "discard"
    assert found.rule_for("/srv/data") is None


def test_an_address_is_taken_apart() -> None:
    found = definition(redirect={"driver": "address", "address": "fd00::100/64", "interface": "eth0"}).redirect
    assert found is not None
    assert str(found.ip) == "fd00::100"
    assert found.prefix == 64


def test_the_digest_is_of_the_meaning() -> None:
    assert definition().digest() == definition(mirror={"interval_ms": 50}).digest()
    assert definition().digest() != definition(mirror={"interval_ms": 51}).digest()


def test_a_release_that_knows_another_key_finds_the_same_digest() -> None:
    """Nodes of two releases mirror from one to the other while they are upgraded."""

    class Newer(Definition):
        later: int = 7

    assert Newer.model_validate(SMALLEST).digest() == definition().digest()
    assert Newer.model_validate({**SMALLEST, "later": 8}).digest() != definition().digest()
