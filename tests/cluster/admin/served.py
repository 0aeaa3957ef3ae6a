"""An API that is served for real, on this machine, and what asks it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from cluster.admin.app import Api, Settings
from cluster.admin.auth import ScopeName, Tokens, entry_text, make_token
from tests.cluster.admin.fake_cluster import FakeCluster

SCOPES: tuple[ScopeName, ...] = ("viewer", "operator", "admin")


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def problem(self) -> tuple[int, str, str]:
        """Status, the last word of its type, and its one line; it is a whole problem document."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.text
        document = self.json
        assert document["status"] == self.status
        assert "\n" not in document["detail"]
        return self.status, document["type"].removeprefix("urn:kagemusha:"), document["detail"]


class Served:
    """One API over a fake cluster. tokens: by scope."""

    def __init__(self, api: Api, cluster: FakeCluster, tokens: dict[str, str], file: Path) -> None:
        self.api = api
        self.cluster = cluster
        self.tokens = tokens
        self.file = file
        self.session = aiohttp.ClientSession()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api.port}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        scope: str | None = "admin",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Reply:
        """One request; scope: whose token is shown, None for none."""
        shown = dict(headers or {})
        if scope is not None:
            shown.setdefault("Authorization", f"Bearer {self.tokens[scope]}")
        async with self.session.request(method, self.url + path, headers=shown, **more) as answer:
            return Reply(answer.status, dict(answer.headers), await answer.text())


def tokens_in(directory: Path) -> tuple[Path, dict[str, str]]:
    """A tokens file with one token for each scope, and the tokens."""
    made = {scope: make_token() for scope in SCOPES}
    file = directory / "tokens.toml"
    file.write_text("\n".join(entry_text(scope, scope, digest) for scope, (_, digest) in made.items()))
    file.chmod(0o600)
    return file, {scope: token for scope, (token, _) in made.items()}


@asynccontextmanager
async def served(
    directory: Path, cluster: FakeCluster | None = None, settings: Settings | None = None
) -> AsyncIterator[Served]:
    """Serve a fake cluster's API until the block ends."""
    cluster = cluster or FakeCluster()
    directory.mkdir(exist_ok=True)
    file, tokens = tokens_in(directory)
    api = Api(cluster, Tokens(file), settings or Settings(cluster.node, "127.0.0.1", 0))
    await api.start()
    one = Served(api, cluster, tokens, file)
    try:
        yield one
    finally:
        await one.session.close()
        await api.close()
