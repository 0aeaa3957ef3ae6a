"""The reference of the API, written from its table of endpoints and its models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.admin.auth import Scope
from cluster.admin.endpoint import Endpoint
from cluster.admin.openapi import document
from cluster.admin.problem import SORTS, Sort
from cluster.admin.routes import ANYWHERE, ENDPOINTS, WITH_TOKEN, problems_of

_HEAD = """\
# The API

<!-- Written by `kagemusha reference api`; change cluster/admin/routes.py and cluster/admin/models.py instead. -->

HTTP over TLS 1.3, on every node, at the `admin` endpoint of its node.toml, with the node's own certificate: compare the
authority (authority.pem), not the name, for any node will do. A node that must ask the leader does so. The document for
programs is at `/openapi.json` (OpenAPI 3.1).

```sh
curl --cacert authority.pem --connect-to a:7402:10.0.0.1:7402 -H "Authorization: Bearer $KAGEMUSHA_TOKEN" \\
  https://a:7402/v1/programs
```

```python
from kagemusha.client import Client

with Client(["10.0.0.1:7402", "10.0.0.2:7402"], token="kgm_...", authority="authority.pem") as cluster:
    cluster.create_mirrored_instance("redis", "/etc/kagemusha/redis.toml")
    cluster.get_instance_status("redis@a")
    cluster.force_switchover("redis@b")
```

`AsyncClient` has the same methods as coroutines. Both pass over nodes that do not answer, and wait a moment where there
is no leader just then.

## Who may do what

A token is shown as `Authorization: Bearer kgm_...` (RFC 6750). A viewer looks; an operator also switches over, starts,
stops, pauses and drains; an admin also creates and deletes. `kagemusha token NAME --scope SCOPE --file tokens.toml`
makes one. The nodes keep its SHA-256 alone, in a file that belongs to root and is read again when it has changed:

```toml
[[tokens]]
name = "ops"
scope = "operator"
sha256 = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
expires = 2027-12-31  # may be left out
```

No request can name a command: what runs is written in a program's file, which belongs to root on every node.

## Twice is once

A request that changes something may carry an `Idempotency-Key` of 1 to 128 visible characters. Sent again with the same
key, to any node, it has the effect of once; the node that carried it out gives the same answer again. After
`unknown-outcome` that is how to find out. `kagemusha.client` always sends one. What was agreed for a key is remembered
by the group, not by a node alone: a deletion, a start or a change of primary whose answer was lost with a leader is
answered as done by the next one, and not done to what came since.

A node sends on to the leader what only that one can do, and waits for the answer while that node leads and is heard.
When it is lost, or its daemon hangs, the same request goes to the next leader under the same key (one that had none
gets one), after a second at most. Where there is no leader within 3 s the answer is `no-leader`, or `unknown-outcome`
if the first one may have done it. `kagemusha.client` passes over a node that hangs in the middle of a request within
6 s: it asks for its `/liveness` meanwhile.

## Limits

A body has at most 64 KiB and comes within 10 s. A node works on 64 requests at a time, and has 32 event streams.
"""

_PROBLEMS = """\
## Problems

Every answer that is no success is a problem document (RFC 9457): `type` is `urn:kagemusha:` and a word, `detail` one
line for people, `hint` the remedy, `errors` each mistake in the request. Any request may have the problems {anywhere};
one with a token {with_token} too.

```json
{"type": "urn:kagemusha:unknown", "title": "There is no such thing", "status": 404,
 "detail": "there is no instance redis@z", "hint": "`kagemusha list` shows all", "errors": []}
```

| word | status | what it is |
|---|---|---|
"""


def reference_markdown() -> str:
    """The whole document."""
    rows = "\n".join(f"| `{sort.word}` | {sort.status} | {sort.title} |" for sort in _by_status())
    sections = [_endpoint(endpoint) for endpoint in ENDPOINTS]
    return "\n".join([_HEAD, "## What it can do\n", *sections, f"{_problems()}{rows}\n", _models()])


def _problems() -> str:
    return _PROBLEMS.replace("{anywhere}", _words(ANYWHERE)).replace("{with_token}", _words(WITH_TOKEN))


def _words(sorts: Sequence[Sort]) -> str:
    return ", ".join(f"`{sort.word}`" for sort in sorts)


def _by_status() -> list[Sort]:
    return sorted(SORTS, key=lambda sort: (sort.status, sort.word))


def _endpoint(endpoint: Endpoint) -> str:
    answer = endpoint.answer.__name__ if endpoint.answer is not None else endpoint.media
    own = [f"`{sort.word}`" for sort in problems_of(endpoint) if sort not in (*ANYWHERE, *WITH_TOKEN)]
    lines = [
        f"### `{endpoint.method} {endpoint.path}`",
        "",
        endpoint.summary,
        "",
        f"- operation `{endpoint.operation}`, for {_who(endpoint.scope)}",
        *(f"- `?{one.name}=`: {one.meaning}" for one in endpoint.query),
        *([f"- takes {_link(endpoint.request.__name__)}"] if endpoint.request is not None else []),
        f"- answers {endpoint.status} with {_link(answer) if endpoint.answer is not None else f'`{answer}`'}",
        *([f"- problems of its own: {', '.join(own)}"] if own else []),
        "",
    ]
    return "\n".join(lines)


def _who(scope: Scope | None) -> str:
    if scope is None:
        return "everybody, without a token"
    return {Scope.VIEWER: "viewers", Scope.OPERATOR: "operators", Scope.ADMIN: "admins"}[scope]


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _models() -> str:
    lines = ["## Models", ""]
    for name, schema in sorted(document()["components"]["schemas"].items()):
        if name == "Problem" or "properties" not in schema:
            continue
        text = " ".join(schema.get("description", "").split()).replace("*", "\\*")
        lines += [f"### {name}", "", text, "", "| field | type | meaning |", "|---|---|---|"]
        lines += [_field(key, value) for key, value in schema["properties"].items()]
        lines.append("")
    return "\n".join(lines)


def _field(name: str, schema: dict[str, Any]) -> str:
    meaning = schema.get("description", "").replace("|", "\\|").replace("<", "&lt;")
    return f"| `{name}` | {_type(schema)} | {meaning} |"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f'`"{one}"`' for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"object of {_type(inner)}s" if isinstance(inner, dict) else "object"
    return str(schema.get("type", "anything"))
