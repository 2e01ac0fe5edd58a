"""Interprets the params of each method: the requested name, its target, and the upstream's request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace as _replace

from gateway_core.api import Call, CallResult
from gateway_core.catalog import Catalog, Target, require_tasks
from gateway_core.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    RpcError,
)
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import NAME_MEMBERS, PLUGIN_METHODS, SUBSCRIBE, TASKS, TOOLS_CALL
from gateway_core.upstream.lists.fetched_lists import header_names
from gateway_core.upstream.requests import Request

_PROMPT_REF: Final = "ref/prompt"
_REF_KEY: Final[Mapping[str, str]] = {_PROMPT_REF: "name", "ref/resource": "uri"}


Supplied = CallResult | Callable[[Target], Awaitable[CallResult]]
"""What answers a request that needs no upstream's response: a result, or a function that serves it at its target."""


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
    mismatch: RpcError | None = None
    """The error for headers that do not match the arguments; such a request is not sent."""

    @property
    def cursor(self) -> str | None:
        """The cursor of a list; None for its first page. Raises `RpcError` if it is no text."""
        raw = self.others.get("cursor")
        return None if raw is None or bytes(raw) == b"null" else jsonrpc.text(raw, "cursor")

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
            target,
            of_prompt=self.ref_type == _PROMPT_REF,
            session=agent.session_key,
            generation=exchange.generation,
        )


PLAIN: Final = Params("", b"", b"", {})
"""Those of a call with a plan, which has made the call from them: no further members, and no mismatch."""


def read(exchange: Exchange, members: Mapping[str, Raw]) -> Params:
    """Split the params of a request. Raises `RpcError` if they violate the protocol."""
    method = exchange.method
    if method not in PLUGIN_METHODS:
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"Method not found: {method}")
    if method in TASKS:
        require_tasks(exchange.agent)
    others = dict(members)
    meta = bytes(others.pop("_meta", b""))
    ref: dict[str, Raw] | None = None
    name = ref_type = ""
    key = "uri" if method == SUBSCRIBE else NAME_MEMBERS.get(method)
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


def find(catalog: Catalog, method: str, name: str, agent: Agent, params: Params) -> Target | None:
    """The target that `agent` knows as `name`; None if no upstream serves it, and for lists."""
    viewer, profile = agent.viewer, agent.principal.profile
    match method:
        case "tools/call":
            return catalog.tool(name, viewer, profile)
        case "prompts/get":
            return catalog.prompt(name, viewer, profile)
        case "resources/read" | "resources/subscribe":
            return catalog.resource(name, viewer, profile)
        case "completion/complete":
            of_prompt = params.ref_type == _PROMPT_REF
            look_up = catalog.prompt if of_prompt else catalog.template
            return look_up(name, viewer, profile)
        case "tasks/get" | "tasks/update" | "tasks/cancel":
            return catalog.tasks.find(agent, name)
    return None


def with_names(call: Call, catalog: Catalog, agent: Agent) -> Call:
    """The call of a list method with the names in the list that `agent` gets."""
    return call.with_listed(catalog.listed(call.method, agent.viewer, agent.principal.profile))


def checked(exchange: Exchange, params: Params, target: Target | None) -> tuple[Call, Params]:
    """The call as plugins see it, and its params, with the arguments that a profile sets.

    `Params.mismatch` says why the call is refused after the plugins, one of which may hide the tool.
    """
    if target is not None and target.preset is not None:
        arguments, error = target.preset.added_to(params.arguments)
        params = _replace(params, arguments=arguments, mismatch=error)
    call = params.call(exchange, target)
    mismatch = params.mismatch or _mismatch(exchange, call, target)
    return call, params if mismatch is None else _replace(params, mismatch=mismatch)


def _mismatch(exchange: Exchange, call: Call, target: Target | None) -> RpcError | None:
    """Compare the agent's `Mcp-Param-*` headers with the arguments that the published tool mirrors in them.

    Removes the compared headers, because the next hop's are made from its body; the others are passed on. Returns the
    error `HEADER_MISMATCH` if they differ (transports/streamable-http, Server Behavior for Custom Headers).
    """
    given = exchange.headers
    if given is None or target is None or target.tool is None or not target.mirrored:
        return None
    try:
        arguments = call.arguments
    except RpcError as error:
        return RpcError.of_gateway(HEADER_MISMATCH, f"no header can match the arguments: {error.message}")
    from mcp.shared.inbound import validate_mcp_param_headers  # noqa: PLC0415 - see `SDK`

    rejection = validate_mcp_param_headers(target.tool.definition.get("inputSchema"), arguments, dict(given))
    if rejection is not None:
        return RpcError.of_gateway(rejection.code, rejection.message)
    compared = header_names(target.mirrored)
    if target.preset is not None:
        names = target.preset.names
        hidden = header_names({path: token for path, token in target.mirrored.items() if path[0] in names})
        for name, _ in given:
            if name.lower() in hidden:
                return RpcError.of_gateway(HEADER_MISMATCH, f"the header {name} belongs to no argument of this tool")
    exchange.pass_on(tuple((name, value) for name, value in given if name.lower() not in compared))
    return None


def request_for(call: Call, params: Params, target: Target, exchange: Exchange) -> Request:
    """The request for the target's upstream, with the upstream's name and the current arguments.

    Raises `RpcError(HEADER_MISMATCH)` if the agent's headers did not match its arguments.
    """
    if params.mismatch is not None:
        raise params.mismatch
    own: dict[str, Any] = dict(params.others)
    if params.ref is not None:
        own["ref"] = {**params.ref, _REF_KEY[params.ref_type]: target.original}
    else:
        own[NAME_MEMBERS[call.method]] = target.original
    if call.raw_arguments:
        own[ARGUMENTS_KEY.get(call.method, "arguments")] = Raw(call.raw_arguments)
    given = exchange.meta if exchange.meta is not None else jsonrpc.members(call.raw_meta, "params._meta")
    return Request(call.method, own, given, exchange.id if call.method == TOOLS_CALL else "")
