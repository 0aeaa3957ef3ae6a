"""Where the client is told to ask, and as whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagemusha.client import Access, ApiError, AsyncClient


@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        ("", "is no endpoint"),
        ("host", "is no endpoint"),
        ("host:x", "is no endpoint"),
        ("ftp://host:1", "is no endpoint"),
        ("https://host:1/path", "is no endpoint"),
        ("http://10.0.0.1:7402", "in the clear"),
    ],
)
def test_endpoints_that_are_refused(endpoint: str, line: str) -> None:
    with pytest.raises(ApiError, match=line):
        AsyncClient([endpoint], token="kgm_x")


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("kgm_file\n")
    monkeypatch.setenv("KAGEMUSHA_TOKEN", "kgm_variable")
    assert Access.from_environment().token == "kgm_variable"
    assert Access.from_environment(token_file=str(file)).token == "kgm_file"
    monkeypatch.delenv("KAGEMUSHA_TOKEN")
    monkeypatch.setenv("KAGEMUSHA_TOKEN_FILE", str(file))
    assert Access.from_environment().token == "kgm_file"
    monkeypatch.setenv("KAGEMUSHA_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(ApiError, match=r"no token: .*none: No such file"):
        Access.from_environment()
    file.write_text("two words\n")
    with pytest.raises(ApiError, match="holds no token"):
        Access.from_environment(token_file=str(file))
