"""Who may do what, and what a node knows of a token."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.admin.auth import TOKENS_FILE, Scope, Tokens, entry_text, hash_of, make_token
from cluster.admin.problem import ApiError
from cluster.admin.routes import ENDPOINTS
from tests.cluster.admin.served import Served, tokens_in
from transport.errors import ConfigError

BY_SCOPE = {None: 0, "viewer": 1, "operator": 2, "admin": 3}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.operation)
@pytest.mark.parametrize("scope", [None, "viewer", "operator", "admin"])
async def test_every_endpoint_asks_for_its_scope(api: Served, endpoint: object, scope: str | None) -> None:
    """Refused before anything of the request is looked at, and before the cluster is asked."""
    one = next(known for known in ENDPOINTS if known is endpoint)
    if one.operation == "follow_events" and scope is not None:
        return
    path = one.path.format(instance="no@such", program="none", node="none")
    reply = await api.ask(one.method, path, scope=scope)
    needed = 0 if one.scope is None else int(one.scope)
    if BY_SCOPE[scope] >= needed:
        assert reply.status not in (401, 403)
    else:
        assert reply.problem()[0] == (401 if scope is None else 403)
        assert api.cluster.asked == []
    if reply.status == 401:
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", "kgm_x", "Bearer kgm_" + "x" * 400, "Bearer a b", "Bearer kgm_wrong"],
)
async def test_headers_that_let_nobody_in(api: Served, header: str) -> None:
    reply = await api.ask("GET", "/v1/programs", scope=None, headers={"Authorization": header})
    assert reply.problem()[:2] == (401, "unauthenticated")
    assert "wrong" not in reply.text
    assert api.cluster.asked == []


async def test_a_scope_that_is_too_small_is_named(api: Served) -> None:
    reply = await api.ask("DELETE", "/v1/programs/redis", scope="operator")
    assert reply.problem()[2] == "the token operator is for operators; this takes admin"


def test_only_the_hash_is_kept(tmp_path: Path) -> None:
    file, tokens = tokens_in(tmp_path)
    text = file.read_text()
    for token in tokens.values():
        assert token not in text
        assert hash_of(token) in text


def test_tokens_are_long_and_never_the_same() -> None:
    made = {make_token()[0] for _ in range(100)}
    assert len(made) == 100
    assert all(len(token) == 47 and token.startswith("kgm_") for token in made)


def test_an_expired_token(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    (old, old_hash), (new, new_hash) = make_token(), make_token()
    today = datetime.now(UTC).date()
    file.write_text(
        entry_text("old", "viewer", old_hash)
        + f"expires = {today}\n"
        + entry_text("new", "viewer", new_hash)
        + f"expires = {today + timedelta(days=2)}\n"
    )
    tokens = Tokens(file)
    assert tokens.bearer_of(f"bearer {new}").name == "new"
    with pytest.raises(ApiError, match="the token old has expired"):
        tokens.bearer_of(f"Bearer {old}")


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file, tokens = tokens_in(tmp_path)
    known = Tokens(file)
    assert known.bearer_of(f"Bearer {tokens['viewer']}").scope is Scope.VIEWER
    token, digest = make_token()
    file.write_text(entry_text("other", "admin", digest))
    assert known.bearer_of(f"Bearer {token}").scope is Scope.ADMIN
    with pytest.raises(ApiError, match="not known here"):
        known.bearer_of(f"Bearer {tokens['viewer']}")


def test_a_file_that_is_broken_lets_nobody_in(tmp_path: Path) -> None:
    file, tokens = tokens_in(tmp_path)
    known = Tokens(file)
    file.write_text("nonsense")
    with pytest.raises(ConfigError, match="not TOML"):
        known.bearer_of(f"Bearer {tokens['admin']}")
    with pytest.raises(ApiError, match="not known here"):
        known.bearer_of(f"Bearer {tokens['admin']}")
    os.unlink(file)
    with pytest.raises(ApiError, match="not known here"):
        known.bearer_of(f"Bearer {tokens['admin']}")


def test_a_file_that_comes_later(tmp_path: Path) -> None:
    known = Tokens(tmp_path / "tokens.toml")
    token, digest = make_token()
    with pytest.raises(ApiError, match="not known here"):
        known.bearer_of(f"Bearer {token}")
    (tmp_path / "tokens.toml").write_text(entry_text("ops", "admin", digest))
    assert known.bearer_of(f"Bearer {token}").name == "ops"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[tokens]]\nname = "a"\nscope = "root"\nsha256 = "' + "0" * 64 + '"\n', "tokens[1].scope: must be"),
        ('[[tokens]]\nname = "a"\nscope = "admin"\nsha256 = "kgm_secret"\n', "tokens[1].sha256: "),
        ('[[tokens]]\nname = "a"\nscope = "admin"\ntoken = "x"\n', "tokens[1].sha256: missing"),
        (2 * entry_text("a", "admin", "0" * 64), "tokens: two tokens have the same name"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    assert line in [str(mistake).removeprefix(f"{file}: ")[: len(line)] for mistake in TOKENS_FILE.mistakes_in(file)]
