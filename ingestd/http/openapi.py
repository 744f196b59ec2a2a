"""The OpenAPI document (3.1), made from the operations, and so from the models that read requests and make answers."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ingestd import __version__
from ingestd.http.operations import Content, Operation
from ingestd.http.parameters import IDENTITY_SCHEMA, LETTER_ID_SCHEMA
from ingestd.http.problems import ProblemDetails
from ingestd.http.scopes import ACCESS, Access

Json: TypeAlias = dict[str, Any]

_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
_DESCRIPTION: Final = (
    "Energy of smart meters and electric vehicles: what each device used, how well each vehicle charges, what the "
    "whole fleet did. Times are RFC 3339 in UTC. Errors are problems of RFC 9457."
)
_EVERYWHERE: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST)
"""What is wrong with the request itself, a page of another site, another host."""
_WITH_TOKENS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
_WITH_BODY: Final = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.LENGTH_REQUIRED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)


def document(operations: Sequence[Operation], *, are_tokens_used: bool) -> Json:
    """The whole document."""
    references, schemas = _schemas(operations)
    paths: dict[str, Json] = {}
    for operation in operations:
        described = _operation(operation, references)
        access = ACCESS[operation.method, operation.path]
        described["x-scope"] = access
        described["security"] = _security(access) if are_tokens_used else []
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    problems = sorted({status for operation in operations for status in _problems_of(operation)})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ingestd",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {status.name: {"description": status.phrase, "content": _PROBLEM} for status in problems},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "a token of `ingestd token add`"}
            },
        },
    }


_Key: TypeAlias = tuple[Any, JsonSchemaMode]


def _schemas(operations: Iterable[Operation]) -> tuple[Mapping[_Key, Json], Json]:
    """By model: a reference to its schema; and the schemas."""
    models: dict[_Key, None] = {(ProblemDetails, "serialization"): None}
    for operation in operations:
        if isinstance(operation.takes, type):
            models[operation.takes, "validation"] = None
        models |= {(one, "serialization"): None for one in operation.answers.values() if isinstance(one, type)}
    references, found = models_json_schema(list(models), ref_template="#/components/schemas/{model}")
    return references, {name: _plain(schema) for name, schema in found["$defs"].items()}


def _operation(operation: Operation, references: Mapping[_Key, Json]) -> Json:
    described: Json = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_of_path(operation), *_of_query(operation)],
        "responses": _responses(operation, references),
    }
    if operation.takes is not None:
        schema = references[operation.takes, "validation"] if isinstance(operation.takes, type) else operation.takes
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described


def _security(access: Access) -> list[Json]:
    """By what a client may do it; an empty one means without a token (OpenAPI 3.1.1 §4.8.30)."""
    match access:
        case "open":
            return []
        case "partly-open":
            return [{}, {"token": ["read"]}]
        case _:
            return [{"token": [access]}]


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[A-Za-z0-9]+", operation.path.removeprefix("/v1"))
    return operation.method.lower() + "".join(word[0].upper() + word[1:] for word in words)


def _of_path(operation: Operation) -> Iterator[Json]:
    for name in re.findall(r"{(\w+)}", operation.path):
        schema = LETTER_ID_SCHEMA if name == "letterId" else IDENTITY_SCHEMA
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _of_query(operation: Operation) -> Iterator[Json]:
    schema = operation.asks.model_json_schema()
    for name, member in schema.get("properties", {}).items():
        parameter: Json = {"name": name, "in": "query", "schema": _plain(_given(member))}
        if description := parameter["schema"].pop("description", None):
            parameter["description"] = description
        yield parameter


def _given(member: Json) -> Json:
    """The schema of a parameter where it is given: there is no null in a query."""
    others = {name: value for name, value in member.items() if name not in {"anyOf", "default"}}
    default = {} if member.get("default") is None else {"default": member["default"]}
    for choice in member.get("anyOf", ()):
        if choice != {"type": "null"}:
            others |= choice
    return others | default


def _responses(operation: Operation, references: Mapping[_Key, Json]) -> Json:
    found = {status: _answer(status, content, references) for status, content in operation.answers.items()}
    for status in _problems_of(operation):
        if status in found:
            found[status]["content"] |= _PROBLEM
        else:
            found[status] = {"$ref": f"#/components/responses/{status.name}"}
    return {str(status.value): found[status] for status in sorted(found)}


def _answer(status: HTTPStatus, content: Content, references: Mapping[_Key, Json]) -> Json:
    described: Json = {"description": status.phrase}
    if isinstance(content, str):
        described["content"] = {content: {}}
    elif content is not None:
        described["content"] = {"application/json": {"schema": references[content, "serialization"]}}
    return described


def _problems_of(operation: Operation) -> Iterator[HTTPStatus]:
    yield from _EVERYWHERE
    yield from operation.problems
    if ACCESS[operation.method, operation.path] != "open":
        yield from _WITH_TOKENS
    if operation.takes is not None:
        yield from _WITH_BODY
    yield HTTPStatus.SERVICE_UNAVAILABLE


def _plain(schema: Json) -> Json:
    """Without the titles that pydantic makes of the names of members."""
    kept = {name: value for name, value in schema.items() if name != "title" or not isinstance(value, str)}
    if "properties" in kept:
        kept["properties"] = {name: _plain(member) for name, member in kept["properties"].items()}
    return kept
