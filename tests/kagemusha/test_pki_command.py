"""`kagemusha pki`: an authority from its making to the end of the one before it, as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagemusha.command_line import run
from kagemusha.exit_codes import ExitCode
from transport.pki import Authority

Printed = pytest.CaptureFixture[str]


def test_an_authority_is_renewed_and_the_old_one_retired(tmp_path: Path, capsys: Printed) -> None:
    authority, node = str(tmp_path / "authority"), str(tmp_path / "a")
    for words in (["init", authority], ["issue", authority, "a", "--out", node], ["check", node]):
        assert run(["pki", *words]) == ExitCode.OK
    assert run(["pki", "renew", authority]) == ExitCode.OK
    capsys.readouterr()
    assert run(["pki", "renew", authority]) == ExitCode.CONFIG
    assert "still trusted" in capsys.readouterr().err
    assert run(["pki", "retire", authority]) == ExitCode.OK
    # What the node has is whole in itself, until it gets to know whom to trust now.
    (tmp_path / "a" / "authority.pem").write_bytes((tmp_path / "authority" / "authority.pem").read_bytes())
    assert run(["pki", "check", node]) == ExitCode.CONFIG


def test_a_certificate_that_ends_soon_is_told_with_the_remedy(tmp_path: Path, capsys: Printed) -> None:
    Authority.create("test").issue("a", days=20).save(tmp_path)
    assert run(["pki", "check", str(tmp_path), "--days", "10"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("a: valid until ")
    assert run(["pki", "check", str(tmp_path)]) == ExitCode.CONFIG
    complaint, hint = capsys.readouterr().err.splitlines()
    assert "expires on" in complaint
    assert "in less than 30 days" in complaint
    assert hint.startswith("hint: kagemusha pki issue AUTHORITY a")
