"""Interprets the params of each method: the requested name, its target, and the upstream's request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core.api import Call, Principal
from gateway_core.catalog import Catalog, Target, require_tasks
from gateway_core.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    RESOURCE_NOT_FOUND_LEGACY,
    RpcError,
)
from gateway_core.exchange.exchange import Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import METHODS, NAME_MEMBERS, TASKS, TOOLS_CALL
from gateway_core.upstream.lists.fetched_lists import header_names
from gateway_core.upstream.requests import Request

MAX_NAME_SHOWN: Final = 500
"""Maximum characters of a name that an error quotes."""

_REF_KEY: Final[Mapping[str, str]] = {"ref/prompt": "name", "ref/resource": "uri"}


class Params(msgspec.Struct, frozen=True, eq=False):
    """The params of one request, split into the members that the gateway reads and the others."""

    name: str
    """The requested name; empty for lists."""
    arguments: bytes
    meta: bytes
    others: Mapping[str, Raw]
    """All other members, including those of later rounds and `cursor`."""
    ref: Mapping[str, Raw] | None = None
    """The reference of a `completion/complete`."""
    ref_type: str = ""

    def call(self, exchange: Exchange, target: Target | None) -> Call:
        """The call as plugins see it."""
        agent = exchange.agent
        return Call(
            exchange.method,
            self.name,
            agent.principal,
            agent.era,
            exchange.id,
            self.arguments,
            self.meta,
            None if target is None else target.tool,
        )


def read(exchange: Exchange, members: Mapping[str, Raw]) -> Params:
    """Split the params of a request. Raises `RpcError` if they violate the protocol."""
    method = exchange.method
    if method not in METHODS:
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"Method not found: {method}")
    if method in TASKS:
        require_tasks(exchange.agent)
    others = dict(members)
    meta = bytes(others.pop("_meta", b""))
    ref: dict[str, Raw] | None = None
    name = ref_type = ""
    key = NAME_MEMBERS.get(method)
    if key is not None:
        if key not in others:
            raise RpcError.of_gateway(INVALID_PARAMS, f"params.{key} is missing")
        name = jsonrpc.text(others.pop(key), f"params.{key}")
    elif method == "completion/complete":
        ref = jsonrpc.members(others.pop("ref", Raw(b"{}")), "params.ref")
        ref_type = jsonrpc.text(ref.get("type", Raw(b'""')), "params.ref.type")
        if ref_type not in _REF_KEY:
            raise RpcError.of_gateway(INVALID_PARAMS, "params.ref.type must be 'ref/prompt' or 'ref/resource'")
        key = _REF_KEY[ref_type]
        name = jsonrpc.text(ref.get(key, Raw(b'""')), f"params.ref.{key}")
    arguments = bytes(others.pop(ARGUMENTS_KEY.get(method, "arguments"), b""))
    if arguments == b"null":
        arguments = b""
    if arguments and arguments[:1] != b"{":
        raise RpcError.of_gateway(INVALID_PARAMS, f"params.{ARGUMENTS_KEY.get(method, 'arguments')} must be an object")
    if method == TOOLS_CALL:
        # It requests a task of 2025-11-25. The gateway does not announce those, so it must ignore the request.
        others.pop("task", None)
    return Params(name, arguments, meta, others, ref, ref_type)


ARGUMENTS_KEY: Final[Mapping[str, str]] = {"completion/complete": "argument", "tasks/update": "inputResponses"}


def find(catalog: Catalog, method: str, name: str, principal: Principal, params: Params) -> Target | None:
    """The target that `principal` knows as `name`; None if no upstream serves it, and for lists."""
    match method:
        case "tools/call":
            return catalog.tool(name, principal.id)
        case "prompts/get":
            return catalog.prompt(name, principal.id)
        case "resources/read":
            return catalog.resource(name, principal.id)
        case "completion/complete":
            of_prompt = params.ref_type == "ref/prompt"
            return catalog.prompt(name, principal.id) if of_prompt else catalog.template(name, principal.id)
        case "tasks/get" | "tasks/update" | "tasks/cancel":
            return catalog.tasks.find(principal, name)
    return None


def check_headers(exchange: Exchange, call: Call, target: Target | None) -> None:
    """Compare the agent's `Mcp-Param-*` headers with the arguments that the published tool mirrors in them.

    Removes the compared headers, because the next hop's are made from its body; the others are passed on. Raises
    `RpcError(HEADER_MISMATCH)` (transports/streamable-http, Server Behavior for Custom Headers).
    """
    given = exchange.headers
    if given is None or target is None or target.tool is None or not target.mirrored:
        return
    try:
        arguments = call.arguments
    except RpcError as error:
        raise RpcError.of_gateway(HEADER_MISMATCH, f"no header can match the arguments: {error.message}") from None
    from mcp.shared.inbound import validate_mcp_param_headers  # noqa: PLC0415 - loaded only if a tool has such headers

    rejection = validate_mcp_param_headers(target.tool.definition.get("inputSchema"), arguments, dict(given))
    if rejection is not None:
        raise RpcError.of_gateway(rejection.code, rejection.message)
    compared = header_names(target.mirrored)
    exchange.pass_on(tuple((name, value) for name, value in given if name.lower() not in compared))


def unknown(call: Call) -> RpcError:
    """The error for a name that no upstream serves, in the agent's era (server/tools, server/resources)."""
    match call.method:
        case "resources/read":
            code = RESOURCE_NOT_FOUND_LEGACY if call.era == "legacy" else INVALID_PARAMS
            return RpcError.of_gateway(code, f"Resource not found: {_short(call.name)}", uri=_short(call.name))
        case "tools/call":
            what = "tool"
        case "prompts/get":
            what = "prompt"
        case "tasks/get" | "tasks/update" | "tasks/cancel":
            return RpcError.of_gateway(INVALID_PARAMS, "Unknown task")  # omit the id, which grants access
        case _:
            what = "reference"
    return RpcError.of_gateway(INVALID_PARAMS, f"Unknown {what}: {_short(call.name)}")


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_SHOWN else f"{name[:MAX_NAME_SHOWN]}…"


def request_for(call: Call, params: Params, target: Target, exchange: Exchange) -> Request:
    """The request for the target's upstream, with the upstream's name and the current arguments."""
    own: dict[str, Any] = dict(params.others)
    if params.ref is not None:
        own["ref"] = {**params.ref, _REF_KEY[params.ref_type]: target.original}
    else:
        own[NAME_MEMBERS[call.method]] = target.original
    if call.raw_arguments:
        own[ARGUMENTS_KEY.get(call.method, "arguments")] = Raw(call.raw_arguments)
    given = exchange.meta if exchange.meta is not None else jsonrpc.members(call.raw_meta, "params._meta")
    return Request(call.method, own, given, exchange.id if call.method == TOOLS_CALL else "")
