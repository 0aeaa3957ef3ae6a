"""Who may do what: bearer tokens (RFC 6750) with a scope, of which a node knows only the SHA-256.

A token has 256 random bits, so a plain hash is enough: there is nothing to guess from it. The tokens file belongs to
root and is read again when it has changed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from cluster.admin.problem import FORBIDDEN, UNAUTHENTICATED, ApiError
from transport.settings import Misfit, Section
from transport.settings_file import SettingsFile

TOKEN_PREFIX: Final = "kgm_"
_TOKEN_BYTES: Final = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,256}=*")
_NAME: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
ScopeName = Literal["viewer", "operator", "admin"]


class Scope(IntEnum):
    """Each may do what those before it may. viewer: look. operator: switch over, start and stop. admin: create and
    delete."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whoever showed a token. name: of the token, for logs."""

    name: str
    scope: Scope


class TokenEntry(Section):
    """One token. Only its hash is kept."""

    name: str = Field(pattern=_NAME, description="Whose it is; it stands in logs.")
    scope: ScopeName = Field(description="What it may do.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the token, in hexadecimal.")
    expires: date | None = Field(default=None, description="First day on which it is not accepted any more (UTC).")


class TokensModel(Section):
    """A whole tokens file."""

    tokens: Annotated[tuple[TokenEntry, ...], Field(strict=False)] = ()

    @field_validator("tokens")
    @classmethod
    def _are_apart(cls, tokens: tuple[TokenEntry, ...]) -> tuple[TokenEntry, ...]:
        names = [one.name for one in tokens]
        if len(set(names)) != len(names):
            raise Misfit("two tokens have the same name", "names are how logs tell them apart")
        return tokens


TOKENS_FILE: Final = SettingsFile(
    TokensModel, "a tokens.toml", "`kagemusha token` makes an entry", "docs/api.md has an example"
)


def make_token() -> tuple[str, str]:
    """A new token and its hash. Whoever loses the token needs another one."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    return token, hash_of(token)


def hash_of(token: str) -> str:
    """What the tokens file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def entry_text(name: str, scope: ScopeName, sha256: str) -> str:
    """The lines for the tokens file."""
    return f'[[tokens]]\nname = "{name}"\nscope = "{scope}"\nsha256 = "{sha256}"\n'


class Tokens:
    """The tokens of one file."""

    def __init__(self, path: Path) -> None:
        """A file that is not there has no tokens, until it is. Raises ConfigError for one that can't be used."""
        self._path = path
        self._stamp = self._stamp_now()
        self._entries = self._load()

    def bearer_of(self, authorization: str | None) -> Bearer:
        """Who shows this Authorization header. Raises ApiError (401); never says which part of a token is wrong."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if not authorization:
            raise ApiError(UNAUTHENTICATED, "no token was shown", hint="Authorization: Bearer kgm_...")
        if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token):
            raise ApiError(UNAUTHENTICATED, "the Authorization header is no bearer token", hint="Bearer kgm_...")
        self._read_again()
        shown, found = hash_of(token), None
        for entry in self._entries:
            if hmac.compare_digest(entry.sha256, shown):
                found = entry
        if found is None:
            raise ApiError(UNAUTHENTICATED, "this token is not known here", hint="the tokens file of the node has all")
        if found.expires is not None and datetime.now(UTC).date() >= found.expires:
            raise ApiError(UNAUTHENTICATED, f"the token {found.name} has expired", hint="`kagemusha token` makes one")
        return Bearer(found.name, Scope[found.scope.upper()])

    def _read_again(self) -> None:
        """A file that can't be used any more lets nobody in: that is safer than yesterday's."""
        stamp = self._stamp_now()
        if stamp != self._stamp:
            self._stamp = stamp
            self._entries = ()
            self._entries = self._load()

    def _load(self) -> tuple[TokenEntry, ...]:
        return TOKENS_FILE.load(self._path).tokens if self._stamp is not None else ()

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def require(bearer: Bearer, scope: Scope) -> None:
    """Raise ApiError (403) unless the bearer may do what takes this scope."""
    if bearer.scope < scope:
        what = f"the token {bearer.name} is for {bearer.scope.name.lower()}s; this takes {scope.name.lower()}"
        raise ApiError(FORBIDDEN, what, hint=f"use a token whose scope is {scope.name.lower()}")
