"""The identity that an agent claims, and the steps from its request to an exchange and to a response."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core.api import CallResult, Principal
from gateway_core.downstream.services import Services
from gateway_core.downstream.sessions.live import RequestKey, Session
from gateway_core.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from gateway_core.exchange.exchange import Agent, BackChannel, Exchange
from gateway_core.inline.driver import Running
from gateway_core.internal_errors import internal_error, where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import METHODS, TASKS

MAX_NAME: Final = 64
MAX_CLAIM: Final = 64 * 1024
"""Maximum bytes of `clientInfo`, and of the capabilities."""
_NO_META: Final[Mapping[str, Raw]] = {}


class _ClientInfo(msgspec.Struct):
    name: str = ""
    version: str = ""


_INFO: Final = msgspec.json.Decoder(_ClientInfo)


def principal_of(client_info: bytes, address: str) -> Principal:
    """The principal of a client, from its `Implementation` and its address. It is claimed, not proven."""
    try:
        info = _INFO.decode(client_info) if client_info else _ClientInfo()
    except (msgspec.DecodeError, RecursionError):
        info = _ClientInfo()
    name = _printable(info.name)
    return Principal(
        id=f"{_identity(info.name, name)}@{address}",
        client_name=name,
        client_version=_printable(info.version),
        address=address,
    )


def _identity(claimed: str, printable: str) -> str:
    """What stands for a claimed name in the id of a principal: different names never have the same.

    A name that is not printable as it is gets a digest of the whole name, and so does one that looks like that.
    """
    if claimed == printable and "~" not in claimed:
        return claimed or "unknown"
    digest = hashlib.sha256(claimed.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{printable or 'unknown'}~{digest}"


def _printable(text: str) -> str:
    """Printable ASCII of at most `MAX_NAME` characters, for logs and as keys of limits."""
    return "".join(char for char in text if " " <= char <= "~")[:MAX_NAME].strip()


def require_object(raw: Raw | bytes | None, what: str) -> bytes:
    """The JSON of an optional member that must be an object; empty if absent.

    Raises `RpcError(INVALID_PARAMS)`, also if it is larger than `MAX_CLAIM`: what an agent says of itself is kept as
    long as its session.
    """
    data = bytes(raw) if raw is not None else b""
    if data and data[:1] != b"{":
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} must be an object")
    if len(data) > MAX_CLAIM:
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} is larger than {MAX_CLAIM} bytes")
    return data


def meta_of(params: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """The members of `_meta`; empty if it is absent or not an object. Raises `RpcError` if it is malformed."""
    data = bytes(params.get("_meta", b""))
    return jsonrpc.members(data) if data[:1] == b"{" else _NO_META


def exchange_for(
    agent: Agent,
    message: Message,
    meta: Mapping[str, Raw],
    back: BackChannel,
    *,
    headers: tuple[tuple[str, str], ...] | None = None,
    log_level: str = "",
) -> Exchange:
    """The exchange of one request; `meta` are the members of its `_meta`, `headers` its `Mcp-Param-*` headers.

    `log_level` is the level that a legacy agent has set, or that a modern agent requests with this request. Raises
    `RpcError(METHOD_NOT_FOUND)` for a method that the gateway does not serve in the agent's era.
    """
    if message.method not in METHODS or (agent.era == "legacy" and message.method in TASKS):
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"unknown method: {message.method[:100]}")
    token = _token(meta["progressToken"]) if "progressToken" in meta else b""
    return Exchange(agent, message.method, back, token, headers, log_level, meta)


def _token(raw: Raw) -> bytes:
    """The JSON of a progress token if it is a string or an integer; otherwise empty."""
    token = bytes(raw)
    return token if token[:1] == b'"' or token.lstrip(b"-").isdigit() else b""


def start_call(services: Services, session: Session, message: Message, exchange: Exchange) -> Running[CallResult]:
    """Serve a request in the background; the loss of its connection does not cancel it.

    Only the agent or the end of its session cancels it.
    Raises `RpcError` if the id is in flight already (basic/index, Requests), or if the gateway is full or stopping.
    """
    key = session.new_key(message.id)
    services.gate.enter(message)
    ended = partial(_ended, services, session, key)
    running = session.calls[key] = services.begin(exchange, message.members, ended)
    return running


def start(
    services: Services, session: Session, message: Message, serve: Coroutine[Any, Any, CallResult]
) -> Running[CallResult]:
    """Run `serve`, which returns the result of a request, in a task that outlives the connection.

    Raises `RpcError` if the id is in flight already, or if the gateway is full or stopping.
    """
    try:
        key = session.new_key(message.id)
        services.gate.enter(message)
    except RpcError:
        serve.close()
        raise
    task = session.calls[key] = asyncio.get_running_loop().create_task(serve)
    task.add_done_callback(partial(_ended, services, session, key))
    return task


def _ended(services: Services, session: Session, key: RequestKey, running: Running[CallResult]) -> None:
    services.left(running)
    session.ended(key)


def response_to(message: Message, running: Running[CallResult]) -> tuple[bytes, RpcError | None]:
    """The JSON-RPC response to a request that ended without being cancelled, and the error in it.

    Never raises: after a bug the response is an internal error.
    """
    try:
        result = running.result()
        error = result.error
        if error is None:
            return jsonrpc.result(message.id, result.raw), None
        return jsonrpc.error(message.id, error), error
    except Exception as bug:  # noqa: BLE001 - encoding the `data` of an error can fail, too
        logger.error("{} in a request\n{}", type(bug).__name__, where(bug))
        error = internal_error()
        return jsonrpc.error(message.id, error), error
