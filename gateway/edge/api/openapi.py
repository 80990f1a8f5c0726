"""A table of routes as an OpenAPI 3.1 document.

Owns: how routes, bodies, answers and problems are written there.
Does not know: which API it is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway import __version__
from gateway.core.errors import REFUSALS
from gateway.edge.api.admin_problems import KINDS, SHAPE
from gateway.edge.api.endpoints import Endpoint
from gateway.edge.operations.bodies import Body, Change
from gateway.edge.operations.views import Data

IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Names this change: a repeat with the same key and content gets the first answer and does nothing.",
    "schema": {"type": "string", "pattern": '^([A-Za-z0-9_.:~+/=-]{1,128}|"[A-Za-z0-9_.:~+/=-]{1,128}")$'},
}
_PART: Final = re.compile(r"\{(\w+)\}")
_EVERYWHERE: Final = ("unauthorized", "internal", "ledger_unavailable")
_WITH_A_BODY: Final = ("invalid_json", "body_too_large")
_WITH_A_CHANGE: Final = ("invalid_idempotency_key", "operation_conflict", "ledger_refused")


def document(
    *,
    title: str,
    description: str,
    base: str,
    endpoints: Sequence[Endpoint[Any]],
    answers: Mapping[str, Data],
    token: str,
    also: Sequence[str] = (),
) -> Data:
    """The document of an API at `base`. `answers` are the schemas that routes name, `token` says what the bearer is,
    `also` are problems that each of its routes has.
    """
    paths: dict[str, Data] = {}
    schemas: dict[str, Data] = {"Problem": dict(SHAPE), **answers}
    for endpoint in endpoints:
        if endpoint.body is not None:
            schemas |= _body(endpoint.body)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _route(endpoint, tuple(also))
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "description": description},
        "servers": [{"url": base}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": token}},
        },
    }


def _route(endpoint: Endpoint[Any], also: tuple[str, ...]) -> Data:
    parameters: list[Data] = [
        {"name": part, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for part in _PART.findall(endpoint.path)
    ]
    parameters += [
        {"name": one.name, "in": "query", "description": one.meaning, "schema": one.schema} for one in endpoint.query
    ]
    if endpoint.changes:
        parameters.append(dict(IDEMPOTENCY_KEY))
    route: Data = {
        "operationId": _name(endpoint),
        "summary": endpoint.summary,
        "description": f"Needs the scope `{endpoint.scope}`." if endpoint.scope else "",
        "parameters": parameters,
        "responses": {str(endpoint.status): _success(endpoint), **_problems(endpoint, also)},
    }
    if endpoint.body is not None:
        schema = {"$ref": f"#/components/schemas/{endpoint.body.__name__}"}
        required = not endpoint.body.may_be_left_out()
        route["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return route


def _name(endpoint: Endpoint[Any]) -> str:
    words = re.findall(r"\w+", endpoint.path)
    return "_".join([endpoint.method.lower(), *words])


def _success(endpoint: Endpoint[Any]) -> Data:
    content: Data = {"application/json": {"schema": {"$ref": f"#/components/schemas/{endpoint.answer}"}}}
    if any(parameter.name == "format" for parameter in endpoint.query):
        content["text/csv"] = {"schema": {"type": "string"}}
    return {"description": "Done", "content": content}


def _problems(endpoint: Endpoint[Any], also: tuple[str, ...]) -> dict[str, Data]:
    codes = [*_EVERYWHERE, *also, *endpoint.problems]
    if "{account}" in endpoint.path:
        codes.append("unknown_account")
    if endpoint.body is not None:
        codes += _WITH_A_BODY
    if endpoint.changes:
        codes += _WITH_A_CHANGE
    if endpoint.body is not None or endpoint.query:
        codes += ["invalid_request", "ledger_refused"]
    by_status: dict[str, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(str(KINDS[code].status), []).append(code)
    for refusal in endpoint.refusals:
        by_status.setdefault(str(REFUSALS[refusal].status), []).append(str(refusal))
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": ", ".join(f"`{code}`" for code in found),
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status, found in sorted(by_status.items())
    }


def _body(model: type[Body]) -> dict[str, Data]:
    """The schemas of a body and of what it is made of, by name."""
    schema: Data = model.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Data] = schema.pop("$defs", {})
    if issubclass(model, Change):  # what is not named stays: there are no defaults
        schema["minProperties"] = 1
        for field in schema["properties"].values():
            field.pop("default", None)
    return {**parts, model.__name__: schema}
