"""`kagemusha adopt-unit` as a person types it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.program_file import load_definition
from kagemusha.command_line import run
from kagemusha.exit_codes import ExitCode
from kagemusha.unit.source import SYSTEMD

DEBIAN = Path("/lib/systemd/system/redis-server.service")
TEXT = "[Service]\nType=forking\nExecStart=/usr/bin/web\nUser=web\nEnvironment=A=1\n"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A unit with a drop-in beside it."""
    file = tmp_path / "web.service"
    file.write_text(TEXT)
    (tmp_path / "web.service.d").mkdir()
    (tmp_path / "web.service.d" / "10-more.conf").write_text("[Service]\nEnvironment=B=2\nType=simple\n")
    return file


def test_drop_ins_count_and_the_file_is_for_root_alone(unit: Path, tmp_path: Path) -> None:
    made = tmp_path / "web.toml"
    assert run(["adopt-unit", "--file", str(unit), "--output", str(made)]) == 0
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    found = load_definition(made)
    assert (found.program.id, found.program.environment) == ("web", {"A": "1", "B": "2"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["web.service", "web.service.d", "web.toml"]


def test_a_file_that_is_there_stays_unless_forced(
    unit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "web.toml"
    made.write_text("mine")
    assert run(["adopt-unit", "--file", str(unit), "--output", str(made)]) == ExitCode.CONFIG
    assert made.read_text() == "mine"
    assert capsys.readouterr().err == f"{made}: is there already\nhint: --force replaces it\n"
    assert run(["adopt-unit", "--file", str(unit), "--output", str(made), "--force"]) == 0
    assert load_definition(made).program.id == "web"


def test_strict_writes_nothing_where_something_must_be_changed(
    unit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "web.service.d" / "10-more.conf").unlink()
    made = tmp_path / "web.toml"
    assert run(["adopt-unit", "--file", str(unit), "--output", str(made), "--strict"]) == ExitCode.PREFLIGHT
    assert not made.exists()
    assert capsys.readouterr().err.startswith("web.service: change: Type=forking: ")


def test_an_address_may_be_given(unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adopt-unit", "--file", str(unit), "--id", "shop", "--address", "10.0.0.9/24", "--interface", "eth0"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert 'id = "shop"' in out
    assert '[redirect]\ndriver = "address"\naddress = "10.0.0.9/24"\ninterface = "eth0"\n' in out
    assert run([*words, "--driver", "pigeon"]) == ExitCode.USAGE
    assert run(words[:-2]) == ExitCode.USAGE


def test_what_no_program_can_be(unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["adopt-unit", "--file", str(unit), "--id", "No Such"]) == ExitCode.CONFIG
    assert capsys.readouterr().err.startswith("web.service: as a program: program.id: ")


def test_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["adopt-unit", "--file", str(tmp_path / "none.service")]) == ExitCode.CONFIG
    assert capsys.readouterr().err.startswith(f"{tmp_path}/none.service: No such file or directory\nhint: ")
    assert run(["adopt-unit"]) == ExitCode.USAGE


@pytest.mark.skipif(SYSTEMD.is_dir(), reason="systemd runs here")
def test_where_systemd_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["adopt-unit", "redis-server"]) == ExitCode.CONFIG
    assert capsys.readouterr().err == (
        "redis-server.service: systemd does not run here\nhint: --file PATH reads the file of a unit instead\n"
    )


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's redis-server is not installed")
def test_the_redis_of_debian(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["adopt-unit", "--file", str(DEBIAN)]) == 0
    out, err = capsys.readouterr()
    assert 'user = "redis"' in out
    assert "d /run/redis 2755 redis redis -" in out
    assert ": note: Type=notify: " in err
    assert "does not know it" not in err
