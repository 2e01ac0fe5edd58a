"""Modern agents (2026-07-28 on): every request carries its version, client and capabilities, and stands alone.

`admit` is the validation ladder for all transports, `ModernHttp` the POST of Streamable HTTP. There the answer's
status tells what went wrong, and an agent that closes its connection has cancelled its request
(basic/transports/streamable-http).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from aiohttp import web
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.catalog import require_tasks
from gateway_core.downstream import ladder
from gateway_core.downstream.agents import exchange_for, principal_of, require_object, response_to, result_of
from gateway_core.downstream.answer import STATUS_OF, Answer, Refusal
from gateway_core.downstream.head import VERSION_HEADER, Head
from gateway_core.downstream.intake import Post, require_stream
from gateway_core.downstream.logs import level_of
from gateway_core.downstream.services import Services
from gateway_core.downstream.serving import Serving
from gateway_core.downstream.stream import Mailbox, Reply, event_stream, write_events
from gateway_core.driver import Running
from gateway_core.errors import INVALID_REQUEST, RpcError
from gateway_core.exchange import Agent
from gateway_core.jsonrpc import Message
from gateway_core.protocol import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    DISCOVER,
    LISTEN,
    LOG_LEVEL_KEY,
    MODERN_PROTOCOL_VERSIONS,
    NAME_MEMBERS,
    PROTOCOL_VERSION_KEY,
    SERVER_INFO_KEY,
    TASK_IDS,
)
from gateway_core.types import CallResult

MAX_REMEMBERED: Final = 4096
"""Bytes of what an agent says of itself up to which it is remembered."""


def is_modern(meta: Mapping[str, Raw]) -> bool:
    """Whether a request's `_meta` marks it as modern."""
    return PROTOCOL_VERSION_KEY in meta


def admit(
    message: Message,
    params: dict[str, Raw],
    meta: Mapping[str, Raw],
    address: str,
    headers: Mapping[str, str] | None = None,
) -> tuple[Agent, str]:
    """The agent behind a request that passes the ladder, and the log level that it asks for.

    The ladder: `_meta` complete, headers match, version supported. `headers`: the routing headers, by lower-case name;
    None for transports without. What passes is remembered, as agents say the same of themselves each time. Raises
    `RpcError` with `INVALID_PARAMS`, `HEADER_MISMATCH`, `UNSUPPORTED_PROTOCOL_VERSION` or `MISSING_CLIENT_CAPABILITY`.
    """
    method = message.method
    named = NAME_MEMBERS.get(method, "")
    name, info = bytes(params.get(named, b"")), bytes(meta.get(CLIENT_INFO_KEY, b""))
    capabilities = bytes(meta.get(CLIENT_CAPABILITIES_KEY, b""))
    # Agents choose the sizes of these; their headers are bounded by themselves.
    climb = _remembered if len(name) + len(info) + len(capabilities) <= MAX_REMEMBERED else _climb
    admitted = climb(
        method,
        name,
        bytes(meta.get(PROTOCOL_VERSION_KEY, b"")),
        capabilities,
        info,
        bytes(meta.get(LOG_LEVEL_KEY, b"")),
        address,
        None if headers is None else tuple(headers.items()),
    )
    if method == LISTEN and TASK_IDS in jsonrpc.members(params.get("notifications", Raw()), "notifications"):
        require_tasks(admitted[0])
    return admitted


def _climb(  # noqa: PLR0917 - they are the key of a table
    method: str,
    raw_name: bytes,
    raw_version: bytes,
    capabilities: bytes,
    info: bytes,
    raw_level: bytes,
    address: str,
    headers: tuple[tuple[str, str], ...] | None,
) -> tuple[Agent, str]:
    """The ladder itself. What is given decides about the agent: JSON as it came, empty for what was left out.

    Raises as `admit` does.
    """
    meta: dict[str, Any] = {}
    if capabilities:
        meta[CLIENT_CAPABILITIES_KEY] = Raw(capabilities)
    if raw_version:
        meta[PROTOCOL_VERSION_KEY] = jsonrpc.value(raw_version)
    name = jsonrpc.value(raw_name) if raw_name else None
    version = ladder.climb(method, name, meta, None if headers is None else dict(headers))
    client_info = require_object(info, f"_meta[{CLIENT_INFO_KEY!r}]")
    log_level = level_of(Raw(raw_level), f"_meta[{LOG_LEVEL_KEY!r}]") if raw_level else ""
    agent = Agent(
        principal=principal_of(client_info, address),
        era="modern",
        protocol_version=version,
        client_info=client_info,
        capabilities=require_object(capabilities, f"_meta[{CLIENT_CAPABILITIES_KEY!r}]"),
    )
    return agent, log_level


_remembered = lru_cache(maxsize=1024)(_climb)


def discover(services: Services) -> bytes:
    """The result of `server/discover`."""
    identity = services.catalog.identity("modern")
    result: dict[str, Any] = {
        "resultType": "complete",
        "supportedVersions": list(MODERN_PROTOCOL_VERSIONS),
        "capabilities": identity["capabilities"],
        **services.catalog.discover_hint().members(),
        "_meta": {SERVER_INFO_KEY: identity["serverInfo"]},
    }
    if "instructions" in identity:
        result["instructions"] = identity["instructions"]
    return jsonrpc.encode(result)


class ModernHttp:
    """Serves one POST of a modern agent."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def post(self, post: Post) -> Answer | Serving:
        """Answer a message other than `subscriptions/listen`. Raises `Refusal`."""
        message, head = post.message, post.head
        if not message.is_request:
            if message.is_response:
                raise Refusal(400, "a client of this protocol version sends no responses")
            return _acknowledge(head, post.meta)
        accepted = head.accepts()
        try:
            agent, log_level = admit(message, message.members, post.meta, post.address, head.routing())
            if message.method == DISCOVER:
                return Answer(jsonrpc.result(message.id, discover(self._services)))
            reply = Reply(post.begin_stream, accepted)
            exchange = exchange_for(agent, message, post.meta, reply, headers=head.params(), log_level=log_level)
            self._services.gate.enter(message)
            running = self._services.begin(exchange, message.members, self._services.left, swept=post.swept)
            return Serving(running, reply, message, _answer, False, False)
        except RpcError as error:
            raise Refusal.of(error, message) from None

    async def listen(self, request: web.BaseRequest, post: Post) -> web.StreamResponse:
        """Answer `subscriptions/listen`. Raises `Refusal`; `CancelledError` when the agent disconnects."""
        message, accepted = post.message, post.head.accepts()
        try:
            agent, _ = admit(message, message.members, post.meta, post.address, post.head.routing())
            require_stream(accepted, message)
            response = event_stream()
            mailbox = Mailbox()
            subscription = self._services.subscribe(agent, message, message.members, mailbox, ended=mailbox.close)
        except RpcError as error:
            raise Refusal.of(error, message) from None
        try:
            await response.prepare(request)
            await write_events(response, mailbox)
        finally:
            subscription.close()
        return response


def _answer(message: Message, running: Running[CallResult]) -> Answer:
    """The answer of a call that was not cancelled."""
    result = result_of(running)
    status = 200 if result.error is None else _status(result.error)
    return Answer(response_to(message, result), status)


def _acknowledge(head: Head, meta: Mapping[str, Raw]) -> Answer:
    """202 for a notification: this protocol version defines none over HTTP, so there is nothing to do about it."""
    version = head.once(VERSION_HEADER)
    if version is None and is_modern(meta):
        version = str(jsonrpc.value(meta[PROTOCOL_VERSION_KEY]))
    try:
        ladder.require_supported(version or "")
    except RpcError as error:
        raise Refusal(400, error) from None
    return Answer(b"", 202)


def _status(error: RpcError) -> int:
    """The HTTP status of a pipeline's error: those that the specification gives one have it, others are answers."""
    if error.code == INVALID_REQUEST:
        return 200
    return STATUS_OF.get(error.code, 200)
