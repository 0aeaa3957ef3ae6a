"""`kagemusha log-level`, through a real API over a cluster of values."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kagemusha import command_line
from kagemusha.exit_codes import ExitCode
from tests.cluster.admin.served import served


async def typed(*words: str) -> int:
    """Type the command; gives its exit code."""
    return await asyncio.to_thread(command_line.run, ("log-level", *words))


async def test_one_node_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as api:
        monkeypatch.setenv("KAGEMUSHA_TOKEN", api.tokens["admin"])
        monkeypatch.setenv("KAGEMUSHA_ENDPOINTS", api.url)
        assert await typed("a", "debug") == 0
        assert await typed("--all", "warning", "--for", "1h") == 0
        told = [what for what, _ in api.cluster.asked if what.startswith("log-level")]
        assert told == ["log-level a debug 600", *(f"log-level {node} warning 3600" for node in "abc")]


async def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path) as api:
        monkeypatch.setenv("KAGEMUSHA_TOKEN", api.tokens["admin"])
        monkeypatch.setenv("KAGEMUSHA_ENDPOINTS", api.url)
        assert await typed("z", "debug") == ExitCode.UNKNOWN
        assert await typed("a", "loud") == ExitCode.USAGE
        assert await typed("debug") == ExitCode.USAGE
        assert await typed("--all", "a", "debug") == ExitCode.USAGE
        assert await typed("a", "debug", "--for", "ever") == ExitCode.USAGE
        assert await typed("a", "debug", "--for", "2d") == ExitCode.USAGE
        monkeypatch.setenv("KAGEMUSHA_TOKEN", api.tokens["operator"])
        capsys.readouterr()
        assert await typed("a", "debug") == ExitCode.DENIED
    assert [what for what, _ in api.cluster.asked] == ["log-level z debug 600"]
