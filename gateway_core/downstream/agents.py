"""Who an agent says it is, and how one of its requests becomes an exchange and then a response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.bugs import internal_error, where
from gateway_core.downstream.services import Services
from gateway_core.downstream.sessions import Session
from gateway_core.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from gateway_core.exchange import Agent, BackChannel, Exchange
from gateway_core.jsonrpc import Message
from gateway_core.protocol import METHODS, TASKS
from gateway_core.types import CallResult, Principal

MAX_NAME: Final = 64
_CACHED_INFO: Final = 4096
"""Bytes of a client's self-description up to which what was made of it is remembered."""


class _ClientInfo(msgspec.Struct):
    name: str = ""
    version: str = ""


_INFO: Final = msgspec.json.Decoder(_ClientInfo)


def principal_of(client_info: bytes, address: str) -> Principal:
    """The principal that a client's `Implementation` and its address make: claimed, not proven."""
    if len(client_info) <= _CACHED_INFO:
        return _remembered(client_info, address)
    return _principal(client_info, address)


def _principal(client_info: bytes, address: str) -> Principal:
    try:
        info = _INFO.decode(client_info) if client_info else _ClientInfo()
    except (msgspec.DecodeError, RecursionError):
        info = _ClientInfo()
    name = _printable(info.name)
    return Principal(
        id=f"{name or 'unknown'}@{address}",
        client_name=name,
        client_version=_printable(info.version),
        address=address,
    )


_remembered = lru_cache(maxsize=1024)(_principal)


def _printable(text: str) -> str:
    """Printable ASCII of bounded length: these words go to logs, and are keys of limits."""
    return "".join(char for char in text if " " <= char <= "~")[:MAX_NAME].strip()


def require_object(raw: Raw | bytes | None, what: str) -> bytes:
    """The JSON of a member that must be an object if it is there; empty when it is not."""
    data = bytes(raw) if raw is not None else b""
    if data and data[:1] != b"{":
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} must be an object")
    return data


def meta_of(params: dict[str, Raw]) -> dict[str, Raw]:
    """The members of `_meta`; none when it is absent or no object."""
    raw = bytes(params.get("_meta", b""))
    return jsonrpc.members(raw) if raw[:1] == b"{" else {}


def exchange_for(
    agent: Agent,
    message: Message,
    meta: dict[str, Raw],
    back: BackChannel,
    *,
    headers: tuple[tuple[str, str], ...] | None = None,
    log_level: str = "",
) -> Exchange:
    """The exchange of one request; `meta` are the members of its `_meta`, `headers` its `Mcp-Param-*` headers.

    `log_level` is what a legacy agent has set, or what a modern one asks for with this request. Raises
    `RpcError(METHOD_NOT_FOUND)` for what is not served here.
    """
    if message.method not in METHODS or (agent.era == "legacy" and message.method in TASKS):
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"unknown method: {message.method[:100]}")
    token = bytes(meta.get("progressToken", b""))
    usable = token[:1] == b'"' or token.lstrip(b"-").isdigit()
    return Exchange(agent, message.method, back, token if usable else b"", headers, log_level, meta)


def start_call(
    services: Services, session: Session, message: Message, params: Mapping[str, Raw], exchange: Exchange
) -> asyncio.Task[bytes]:
    """Serve a request in a task of its own, which outlives the connection it came on; the task ends in the response.

    A cancelled task means that the agent, or the end of its session, cancelled the request. Raises `RpcError` for an
    id that is in flight already (basic/index, Requests), and when the gateway is full.
    """

    async def serve() -> bytes:
        result = await services.call(exchange, params)
        return response_to(message, result)

    return start(services, session, message, serve)


def start(
    services: Services, session: Session, message: Message, serve: Callable[[], Coroutine[Any, Any, bytes]]
) -> asyncio.Task[bytes]:
    """Have `serve` find the response to a request, as `start_call` does. Raises as it does."""
    key = session.new_key(message.id)
    services.gate.enter(message)

    def ended(_: asyncio.Task[bytes]) -> None:
        services.gate.leave()
        del session.calls[key]
        session.touch()

    task = session.calls[key] = asyncio.get_running_loop().create_task(serve())
    task.add_done_callback(ended)
    return task


def response_to(message: Message, result: CallResult) -> bytes:
    """The JSON-RPC response that carries a call's result, or its error. Never raises."""
    try:
        if result.error is not None:
            return jsonrpc.error(message.id, result.error)
        return jsonrpc.result(message.id, result.raw)
    except Exception as error:  # noqa: BLE001 - an error's `data` comes from elsewhere and may be no JSON
        logger.error("{} while writing an answer\n{}", type(error).__name__, where(error))
        return jsonrpc.error(message.id, internal_error())
