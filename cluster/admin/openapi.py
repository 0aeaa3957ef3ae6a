"""The OpenAPI 3.1 document, generated from the table of endpoints and the models: it can't say anything else. Pure."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from cluster.admin import problem
from cluster.admin.endpoint import EXAMPLES, PATTERNS, Endpoint, Query
from cluster.admin.idempotency import HEADER
from cluster.admin.models import Problem
from cluster.admin.routes import ENDPOINTS, problems_of

Model = type[BaseModel]
Schemas = dict[Any, dict[str, Any]]

VERSION: Final = "1"
_REFERENCE: Final = "#/components/schemas/{model}"
_DESCRIPTION: Final = (
    "Any node answers, and asks the leader where it must. Every error is a problem document (RFC 9457). A request that "
    f"changes something may carry an `{HEADER}`: sent again with the same key, it has the effect and the answer of "
    "once. Tokens have a scope: a viewer looks, an operator also switches over, starts, stops, pauses and drains, an "
    "admin also creates and deletes."
)


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    models: list[tuple[Model, JsonSchemaMode]] = [(model, "validation") for model in _models("request")]
    answers: list[Model] = [*_models("answer"), Problem]
    models += [(model, "serialization") for model in answers]
    references, definitions = models_json_schema(models, ref_template=_REFERENCE)
    schemas = {model: schema for (model, _), schema in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "kagemusha", "version": VERSION, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "kgm_..., from `kagemusha token`"}
            },
        },
    }


def _models(which: Literal["request", "answer"]) -> list[Model]:
    found: list[Model | None] = [getattr(endpoint, which) for endpoint in ENDPOINTS]
    return list(dict.fromkeys(model for model in found if model is not None))


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.operation,
        "summary": endpoint.summary,
        "parameters": [*map(_in_path, endpoint.parameters), *map(_in_query, endpoint.query), *_headers(endpoint)],
        "responses": {str(endpoint.status): _success(endpoint, schemas), **_failures(endpoint, schemas)},
    }
    if endpoint.scope is not None:
        operation["security"] = [{"token": []}]
        operation["x-scope"] = endpoint.scope.name.lower()
    if endpoint.request is not None:
        content = {"application/json": {"schema": schemas[endpoint.request]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _in_path(name: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": PATTERNS[name], "examples": [EXAMPLES[name]]}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(one: Query) -> dict[str, Any]:
    return {"name": one.name, "in": "query", "required": False, "description": one.meaning, "schema": one.schema}


def _headers(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.changes:
        schema: dict[str, Any] = {"type": "string", "pattern": r"^[\x21-\x7e]{1,128}$"}
        return [{"name": HEADER, "in": "header", "required": False, "schema": schema}]
    if endpoint.operation == "follow_events":
        schema = {"type": "string", "pattern": r"^[0-9]{1,18}$"}
        return [{"name": "Last-Event-ID", "in": "header", "required": False, "schema": schema}]
    return []


def _success(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    if endpoint.answer is not None:
        schema = schemas[endpoint.answer]
    else:
        schema = {"type": "object" if endpoint.media == "application/json" else "string"}
    answer: dict[str, Any] = {"description": "Done.", "content": {endpoint.media: {"schema": schema}}}
    if endpoint.status == 201:
        text = "Path of the instance that starts first."
        answer["headers"] = {"Location": {"description": text, "schema": {"type": "string"}}}
    return answer


def _failures(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    by_status: dict[int, list[problem.Sort]] = {}
    for sort in problems_of(endpoint):
        by_status.setdefault(sort.status, []).append(sort)
    content = {problem.MEDIA_TYPE: {"schema": schemas[Problem]}}
    return {
        str(status): {"description": "; ".join(f"{sort.title} (`{sort.word}`)" for sort in sorts), "content": content}
        for status, sorts in by_status.items()
    }
