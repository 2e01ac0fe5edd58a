"""The description of the control plane's API (OpenAPI 3.1), made from the table of its endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from gateway_core.control.access import PAGE_KEY
from gateway_core.control.endpoint import AnyEndpoint, Endpoint, EventStream, Right, WebPage
from gateway_core.hooks.pages import PluginPage
from gateway_core.http1.media_types import EVENT_STREAM, JSON

_NAME: Final = re.compile(r"\{(\w+)\}")
_REF: Final = "#/components/schemas/{name}"
_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_SECURITY: Final[Mapping[Right, list[dict[str, list[str]]]]] = {
    "open": [],
    "read": [{"readToken": []}, {"changeToken": []}, {"browser": [], "pageKey": []}],
    "change": [{"changeToken": []}, {"browser": [], "pageKey": []}],
}
_GENERAL: Final = {400: "The request is malformed", 403: "The Host or the Origin is not allowed"}
_TEXT: Final = (
    "What operators and their programs see of a running gateway, and do to it. Tokens: `rad mcp proxy token`. "
    "All errors are objects with the member `error`, a text for people."
)


def document(endpoints: Sequence[AnyEndpoint], pages: Mapping[str, PluginPage], port: int) -> dict[str, Any]:
    """The description of `endpoints` and of the `pages` of plugins. `port`: of the listener; the cookie has it."""
    schemas = _Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        method = endpoint.method.lower() if isinstance(endpoint, Endpoint) else "get"
        paths.setdefault(endpoint.path, {})[method] = _operation(endpoint, method, schemas)
    for page in pages.values():
        paths[page.page.path] = {"get": _plugin_page(page)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Control plane of the Radium MCP gateway", "version": _version(), "description": _TEXT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Error": _error_schema(), **schemas.components},
            "securitySchemes": {
                "readToken": {"type": "http", "scheme": "bearer", "description": "May only read"},
                "changeToken": {"type": "http", "scheme": "bearer", "description": "For everything"},
                "browser": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": f"radium-{port}",
                    "description": "Of a browser that `rad mcp proxy ui` let in. Requests that change something need "
                    "the header Origin, or Sec-Fetch-Site, of a page of the control plane.",
                },
                "pageKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": PAGE_KEY,
                    "description": "Of the same browser: the fragment of the address that it was let in to.",
                },
            },
        },
    }


def _version() -> str:
    return version("gateway-core")


def _error_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Why the request was not served",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
    }


class _Schemas:
    """The schemas of queries, bodies and answers, as msgspec makes them."""

    def __init__(self, endpoints: Iterable[AnyEndpoint]) -> None:
        kinds: list[Any] = []
        for endpoint in endpoints:
            if not isinstance(endpoint, WebPage):
                kinds += filter(None, (endpoint.answer, getattr(endpoint, "body", None)))
        made, self.components = msgspec.json.schema_components(kinds, ref_template=_REF)
        self._made = list(zip(kinds, made, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of an answer or a body."""
        return next(schema for known, schema in self._made if known is kind or known == kind)


def _operation(endpoint: AnyEndpoint, method: str, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _id(method, endpoint.path),
        "summary": endpoint.summary,
        "tags": [_tag(endpoint.path)],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, schemas),
        "security": [] if isinstance(endpoint, WebPage) else _SECURITY[endpoint.right],
    }
    if isinstance(endpoint, Endpoint) and endpoint.body is not None:
        content = {JSON: {"schema": schemas.of(endpoint.body)}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _id(method: str, path: str) -> str:
    return "_".join((method, *re.findall(r"\w+", path), *(["index"] if path.endswith("/") else [])))


def _tag(path: str) -> str:
    """The subject of an address."""
    parts = [part for part in path.split("/") if part]
    if not parts or parts[0] == "ui":
        return "dashboard"
    return parts[1] if parts[0] == "admin" else "health"


def _parameters(endpoint: AnyEndpoint) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _NAME.findall(endpoint.path)
    ]
    query = None if isinstance(endpoint, WebPage) else endpoint.query
    if query is not None:
        _, components = msgspec.json.schema_components([query], ref_template=_REF)
        for name, schema in components[query.__name__]["properties"].items():
            text = schema.pop("description", "")
            found.append({"name": name, "in": "query", "required": False, "schema": schema, "description": text})
    if isinstance(endpoint, EventStream):
        text = "The id of the last event that was received: the stream continues after it"
        found.append({"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}, "description": text})
    return found


def _responses(endpoint: AnyEndpoint, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(endpoint, WebPage):
        return {
            **{str(status): {"description": text} for status, text in endpoint.statuses.items() if status < 400},
            **_problems({**_GENERAL, **{key: text for key, text in endpoint.statuses.items() if key >= 400}}),
        }
    problems = dict(_GENERAL)
    if endpoint.right != "open":
        problems[401] = "The token, the cookie or the page key is missing or wrong"
    if endpoint.right == "change":
        problems[403] = "The token may only read, or the Host or the Origin is not allowed"
    if _NAME.search(endpoint.path):
        problems[404] = "There is nothing with this name"
    if not (endpoint.right == "open" and endpoint.query is None):
        problems[422] = "The query is wrong"
    if isinstance(endpoint, EventStream):
        schema = {"type": "string", "description": "Server-sent events; x-event-data is the schema of their data"}
        content = {EVENT_STREAM: {"schema": schema, "x-event-data": schemas.of(endpoint.answer)}}
        problems[503] = "Too many event streams are open"
        return {
            "200": {"description": "The events, until the reader goes", "content": content},
            **_problems({**problems, **endpoint.problems}),
        }
    if endpoint.body is not None:
        problems.update({413: "The body is too large", 415: "The body is not said to be JSON"})
        problems[422] = "The query or the body is wrong"
    answer = {JSON: {"schema": schemas.of(endpoint.answer)}}
    return {
        **{str(status): {"description": text, "content": answer} for status, text in endpoint.statuses.items()},
        **_problems({**problems, **endpoint.problems}),
    }


def _problems(problems: Mapping[int, str]) -> dict[str, Any]:
    content = {JSON: {"schema": _ERROR}}
    return {str(status): {"description": problems[status], "content": content} for status in sorted(problems)}


def _plugin_page(found: PluginPage) -> dict[str, Any]:
    problems = {
        **_GENERAL,
        401: "A token of the control plane, or that of the page, is required",
        500: "The plugin failed to render the page",
        503: "The plugin takes long to render the page",
    }
    kind = found.page.content_type.partition(";")[0]
    text = {"description": "The page", "content": {kind: {"schema": {"type": "string"}}}}
    return {
        "operationId": _id("get", found.page.path),
        "summary": f"A page of the plugin {found.plugin}",
        "tags": ["plugins"],
        "parameters": [],
        "responses": {"200": text, **_problems(problems)},
        "security": _SECURITY["read"],
    }
