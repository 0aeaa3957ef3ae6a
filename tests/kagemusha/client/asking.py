"""Who asks the API that the tests serve."""

from __future__ import annotations

from kagemusha.client import AsyncClient
from tests.cluster.admin.served import Served


def asking(api: Served, *more: str, patience_s: float = 0.0, scope: str = "admin") -> AsyncClient:
    """A client of this API, and of other endpoints that are asked before it."""
    return AsyncClient([*more, api.url], token=api.tokens[scope], patience_s=patience_s)
