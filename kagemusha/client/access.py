"""How the client gets to a cluster: endpoints, token, authority, and what it raises where that fails."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

ENDPOINTS_VARIABLE: Final = "KAGEMUSHA_ENDPOINTS"
TOKEN_VARIABLE: Final = "KAGEMUSHA_TOKEN"
TOKEN_FILE_VARIABLE: Final = "KAGEMUSHA_TOKEN_FILE"
AUTHORITY_VARIABLE: Final = "KAGEMUSHA_AUTHORITY"
DEFAULT_ENDPOINT: Final = "127.0.0.1:7402"
DEFAULT_TOKEN_FILE: Final = "/etc/kagemusha/token"
DEFAULT_AUTHORITY: Final = "/etc/kagemusha/pki/authority.pem"

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class ApiError(Exception):
    """The cluster said no, or could not be asked. what: one line; hint: the remedy, or "".

    status: of HTTP, 0 where there was no answer. kind: a word for programs: "unknown", "exists", "no-quorum" ... as in
    docs/api.md; "unreachable", "certificate" and "setup" where there was no answer. errors: each mistake in a request.
    """

    def __init__(
        self, what: str, *, hint: str = "", kind: str = "failed", status: int = 0, errors: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.kind = kind
        self.status = status
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Access:
    """Where nodes are asked, and as whom. endpoints: `host:port` or URLs. authority: the cluster's certificate
    (authority.pem), by which nodes are known; needed for HTTPS only."""

    endpoints: tuple[str, ...]
    token: str
    authority: str = DEFAULT_AUTHORITY

    @staticmethod
    def from_environment(endpoints: Sequence[str] = (), token_file: str = "", authority: str = "") -> Access:
        """What is not given is taken from KAGEMUSHA_ENDPOINTS (separated by commas), KAGEMUSHA_TOKEN or
        KAGEMUSHA_TOKEN_FILE, KAGEMUSHA_AUTHORITY, and else from /etc/kagemusha. Raises ApiError."""
        environment = os.environ
        named = endpoints or [one for one in environment.get(ENDPOINTS_VARIABLE, DEFAULT_ENDPOINT).split(",") if one]
        token = "" if token_file else environment.get(TOKEN_VARIABLE, "")
        if token:
            _require_token(token, TOKEN_VARIABLE)
        else:
            token = _token_in(token_file or environment.get(TOKEN_FILE_VARIABLE, DEFAULT_TOKEN_FILE))
        return Access(tuple(named), token, authority or environment.get(AUTHORITY_VARIABLE, DEFAULT_AUTHORITY))

    @staticmethod
    def given(endpoints: Sequence[str], token: str, authority: str) -> Access:
        """With this token, or as `from_environment` where it is empty."""
        if not token:
            return Access.from_environment(endpoints, authority=authority)
        named = tuple(endpoints) or tuple(os.environ.get(ENDPOINTS_VARIABLE, DEFAULT_ENDPOINT).split(","))
        return Access(named, token, authority or os.environ.get(AUTHORITY_VARIABLE, DEFAULT_AUTHORITY))

    def urls(self) -> list[str]:
        """The endpoints as URLs. Raises ApiError: a token goes in the clear to this machine alone."""
        return [_url(endpoint) for endpoint in self.endpoints]


def _token_in(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8"
        hint = f"`kagemusha token` makes one; or set {TOKEN_VARIABLE}"
        raise ApiError(f"no token: {path}: {why}", hint=hint, kind="setup") from None
    _require_token(token, path)
    return token


def _require_token(token: str, where: str) -> None:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ApiError(f"{where}: holds no token", hint="one line: kgm_...", kind="setup")


def _url(endpoint: str) -> str:
    text = endpoint.strip().rstrip("/")
    url = urlsplit(text if "://" in text else f"https://{text}")
    try:
        bad = url.scheme not in ("http", "https") or not url.hostname or url.port is None or url.path or url.query
    except ValueError:
        bad = True
    if bad:
        what = f'"{endpoint}" is no endpoint'
        raise ApiError(what, hint="10.0.0.1:7402, [fd00::1]:7402 or https://host:7402", kind="setup")
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        what = f"{endpoint}: the token would go over the network in the clear"
        raise ApiError(what, hint="use https", kind="setup")
    return f"{url.scheme}://{url.netloc}"


def tls_of(authority: str) -> ssl.SSLContext:
    """Every node of the cluster will do, so it is the authority that is compared, not the name."""
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or str(error)
        hint = f"give the cluster's authority.pem, or set {AUTHORITY_VARIABLE}"
        raise ApiError(f"no authority: {authority}: {why}", hint=hint, kind="setup") from None
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
