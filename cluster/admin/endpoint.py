"""What one thing that the API can do is made of, and the form of what stands in its path and after it. Pure.

The table of all of them is `cluster.admin.routes`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel

from cluster.admin import models, problem
from cluster.admin.auth import Scope
from cluster.admin.port import Cluster
from cluster.admin.problem import ApiError, Sort


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked. parameters: of the path. body: None where the endpoint takes none. query: of
    what stands after the question mark."""

    parameters: Mapping[str, str]
    body: BaseModel | None
    request_id: str
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """Something that may stand after the question mark. number_max: a whole number from 1 to that; 0: an id."""

    name: str
    meaning: str
    number_max: int = 0

    @property
    def schema(self) -> dict[str, object]:
        """For OpenAPI."""
        if self.number_max:
            return {"type": "integer", "minimum": 1, "maximum": self.number_max}
        return {"type": "string", "pattern": PATTERNS[self.name], "examples": [EXAMPLES[self.name]]}

    def fits(self, value: str) -> bool:
        """Whether it is what `schema` says."""
        if self.number_max:
            return re.fullmatch("[0-9]{1,18}", value) is not None and 1 <= int(value) <= self.number_max
        return re.fullmatch(PATTERNS[self.name].strip("^$"), value) is not None


Run = Callable[[Cluster, Call], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that the API can do.

    operation: its name, in OpenAPI and in metrics. scope: None where no token is needed. answer: None where it is no
    JSON; media: what it is. problems: sorts of its own, besides those that every endpoint may have. run: None where
    `cluster.admin.app` has a handler of its own.
    """

    method: str
    path: str
    operation: str
    summary: str
    scope: Scope | None
    answer: type[BaseModel] | None
    run: Run | None = None
    request: type[BaseModel] | None = None
    status: int = 200
    media: str = "application/json"
    problems: tuple[Sort, ...] = ()
    query: tuple[Query, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether it changes anything: then it takes an Idempotency-Key."""
        return self.method != "GET"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of what stands in its path."""
        return tuple(re.findall(r"{(\w+)}", self.path))


PATTERNS: Final = {
    "instance": models.INSTANCE_PATTERN,
    "program": models.PROGRAM_PATTERN,
    "node": models.NODE_PATTERN,
    "name": models.STRUCTURE_PATTERN,
}
EXAMPLES: Final = {"instance": "redis@a", "program": "redis", "node": "a", "name": "g_sessions"}


def check_parameters(parameters: Mapping[str, str]) -> None:
    """Raise ApiError unless everything in the path is of its form."""
    for name, value in parameters.items():
        # `$` also matches before a newline at the end.
        if not re.fullmatch(PATTERNS[name].strip("^$"), value):
            hint = f"like {EXAMPLES[name]}; `kagemusha list` shows all"
            raise ApiError(problem.INVALID, f"{value[:140]!r} is {models.SHAPES[PATTERNS[name]]}", hint=hint)


def query_of(endpoint: Endpoint, given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What the endpoint takes of what stands after the question mark. Raises ApiError for what is not of its form."""
    if not endpoint.query:
        return {}
    known = {one.name: one for one in endpoint.query}
    found: dict[str, str] = {}
    for name, value in given:
        if name not in known:
            raise ApiError(problem.INVALID, f"{endpoint.operation} takes no {name[:40]!r}", hint="leave it out")
        if name in found or not known[name].fits(value):
            what = f"{name} is given twice" if name in found else f"{value[:140]!r} is no {name}"
            raise ApiError(problem.INVALID, what, hint=known[name].meaning)
        found[name] = value
    return found
