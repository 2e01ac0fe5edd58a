"""Modern agents (2026-07-28 on): every request carries its version, client and capabilities; there are no sessions.

`admit` runs the admission checks for all transports. `ModernHttp` serves the POST of Streamable HTTP, where the HTTP
status depends on the error, and closing the connection cancels the request (basic/transports/streamable-http).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.catalog import require_tasks
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream import admission
from gateway_core.downstream.agents import exchange_for, level_of, principal_of, require_object
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.calls.calls import Calls, response_to
from gateway_core.downstream.http_errors import STATUS_OF, RpcHttpError
from gateway_core.downstream.pending_response import PendingCall, PendingStream
from gateway_core.downstream.post import Post
from gateway_core.downstream.request_headers import (
    VERSION_FIELD,
    check_routing,
    facts_of,
    param_headers,
    require_stream,
)
from gateway_core.downstream.streams.stream import Mailbox, PostResponse, write_events
from gateway_core.downstream.subscriptions.subscription import Subscription, Subscriptions
from gateway_core.errors import INVALID_REQUEST, RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.exchange.presented import NOTHING
from gateway_core.http1.application import Client
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response
from gateway_core.http1.sse import SSE_HEADERS
from gateway_core.inline.driver import Running
from gateway_core.limits.accounts import Account
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import (
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

MAX_REMEMBERED: Final = 4096
"""Maximum size of cached claims, in bytes."""
MAX_PRESENTING: Final = 8
"""Maximum number of agents that are remembered with one set of secrets."""
REMEMBERED: Final = 1024
"""Maximum number of entries in each cache."""


def is_modern(meta: Mapping[str, Raw]) -> bool:
    """Whether a request's `_meta` marks it as modern."""
    return PROTOCOL_VERSION_KEY in meta


def admit(
    message: Message,
    params: dict[str, Raw],
    meta: Mapping[str, Raw],
    caller: Caller,
    headers: Mapping[str, str] | None = None,
) -> tuple[Agent, str]:
    """Run the admission checks of a request; returns its agent and the log level that it requests.

    The checks: `_meta` complete, headers match, version supported. `headers`: by lower-case name; None for transports
    without headers. Results are cached, since agents repeat their claims in every request. Raises `RpcError` with
    `INVALID_PARAMS`, `HEADER_MISMATCH`, `UNSUPPORTED_PROTOCOL_VERSION` or `MISSING_CLIENT_CAPABILITY`.
    """
    method = message.method
    member, raw = NAME_MEMBERS.get(method), meta.get
    name = b"" if member is None else bytes(params.get(member, b""))
    capabilities, info = bytes(raw(CLIENT_CAPABILITIES_KEY, b"")), bytes(raw(CLIENT_INFO_KEY, b""))
    claims = (
        method,
        name,
        None if headers is None else tuple(map(headers.get, admission.HEADERS)),
        bytes(raw(PROTOCOL_VERSION_KEY, b"")),
        capabilities,
        info,
        bytes(raw(LOG_LEVEL_KEY, b"")),
        caller,
    )
    small = len(method) + len(name) + len(capabilities) + len(info) <= MAX_REMEMBERED
    if caller.presented is not NOTHING:
        small = False  # what is remembered would keep the secrets
    admitted = _remembered(claims) if small else _admitted(claims)
    if method == LISTEN and TASK_IDS in jsonrpc.members(params.get("notifications", Raw()), "notifications"):
        require_tasks(admitted[0])
    return admitted


_Claims: TypeAlias = tuple[str, bytes, tuple[str | None, ...] | None, bytes, bytes, bytes, bytes, Caller]
"""The input of the admission checks and of the agent's identity: the method, the name, the values of
`admission.HEADERS` (None for transports without headers), the version, capabilities, client, log level, and caller.

The bytes are unparsed JSON, empty for absent members.
"""


def _admitted(claims: _Claims) -> tuple[Agent, str]:
    """`admit` without its cache and without the check of task subscriptions."""
    method, name, header_values, version, capabilities, info, log_level, caller = claims
    required = {PROTOCOL_VERSION_KEY: version, CLIENT_CAPABILITIES_KEY: capabilities}
    meta = {key: raw for key, raw in required.items() if raw}
    headers = None
    if header_values is not None:
        given = zip(admission.HEADERS, header_values, strict=True)
        headers = {key: value for key, value in given if value is not None}
    agreed = admission.check(method, _value(name), meta, _value(version), headers)
    if caller.presented is not NOTHING:
        return _presenting(agreed, capabilities, info, log_level, caller)
    described = _known_agents if len(capabilities) + len(info) <= MAX_REMEMBERED else _described
    return described(agreed, capabilities, info, log_level, caller)


_remembered = lru_cache(maxsize=REMEMBERED)(_admitted)


def _value(data: bytes) -> Any:
    """A member's value; None if it is absent."""
    return jsonrpc.value(data) if data else None


def _described(version: str, capabilities: bytes, info: bytes, log_level: bytes, caller: Caller) -> tuple[Agent, str]:
    """The agent that these claims describe, and its log level. Raises `RpcError(INVALID_PARAMS)`."""
    client_info = require_object(Raw(info) if info else None, f"_meta[{CLIENT_INFO_KEY!r}]")
    level = level_of(Raw(log_level), f"_meta[{LOG_LEVEL_KEY!r}]") if log_level else ""
    agent = Agent(
        principal=principal_of(client_info, caller),
        era="modern",
        protocol_version=version,
        client_info=client_info,
        capabilities=require_object(capabilities, f"_meta[{CLIENT_CAPABILITIES_KEY!r}]"),
        presented=caller.presented,
    )
    return agent, level


def _presenting(version: str, capabilities: bytes, info: bytes, log_level: bytes, caller: Caller) -> tuple[Agent, str]:
    """`_described` for a caller with secrets: what is remembered of it goes when the secrets go."""
    known: dict[object, tuple[Agent, str]] = caller.presented.agents
    key = (version, capabilities, info, log_level)
    found = known.get(key)
    if found is None:
        found = _described(version, capabilities, info, log_level, caller)
        if len(known) >= MAX_PRESENTING:
            known.clear()
        known[key] = found
    return found


_known_agents = lru_cache(maxsize=REMEMBERED)(_described)
"""Returns the same `Agent` for all methods and names, because the agent caches call plans."""


def discover(catalog: CurrentCatalog, agent: Agent) -> bytes:
    """The result of `server/discover` for an agent."""
    identity = catalog.identity("modern", agent.principal.profile)
    result: dict[str, Any] = {
        "resultType": "complete",
        "supportedVersions": list(MODERN_PROTOCOL_VERSIONS),
        "capabilities": identity["capabilities"],
        **catalog.discover_hint().members(),
        "_meta": {SERVER_INFO_KEY: identity["serverInfo"]},
    }
    if "instructions" in identity:
        result["instructions"] = identity["instructions"]
    return jsonrpc.encode(result)


class ModernHttp:
    """Serves the POST requests of modern agents."""

    def __init__(
        self, catalog: CurrentCatalog, calls: Calls, subscriptions: Subscriptions, budget: MemoryBudget | None = None
    ) -> None:
        """`budget` counts the messages that agents do not read."""
        self._catalog = catalog
        self._calls = calls
        self._subscriptions = subscriptions
        self._budget = budget

    def post(self, post: Post) -> Response | PendingCall | PendingStream:
        """Answer a message. Raises `HttpError`."""
        message, head, client = post.message, post.head, post.client
        if not message.is_request:
            if message.is_response:
                raise HttpError(400, "clients of this protocol version must not send responses")
            return _acknowledge(head, post.meta)
        accepted = facts_of(head).accepted
        try:
            check_routing(head)
            agent, log_level = admit(message, message.members, post.meta, post.caller, head.fields)
            if message.method == DISCOVER:
                return Response(jsonrpc.result(message.id, discover(self._catalog, agent)))
            if message.method == LISTEN:
                return self._listen(post, agent)
            reply = PostResponse(client, head, accepted, self._budget)
            headers = param_headers(head)
            exchange = exchange_for(agent, message, post.meta, reply, headers=headers, log_level=log_level)
            running = self._calls.begin(exchange, message)
            return PendingCall(running, reply, message, _respond, False)
        except RpcError as error:
            raise RpcHttpError.of(error, message) from None

    def _listen(self, post: Post, agent: Agent) -> PendingStream:
        """Answer `subscriptions/listen`. Raises `HttpError`, `RpcError`."""
        require_stream(post.head)
        mailbox = Mailbox(Account(self._budget, post.caller.network))
        message = post.message
        subscription = self._subscriptions.open(agent, message, mailbox, ended=mailbox.close)
        return PendingStream(_write(post.client, subscription, mailbox))


async def _write(client: Client, subscription: Subscription, mailbox: Mailbox) -> None:
    try:
        await write_events(await client.begin_stream(SSE_HEADERS), mailbox)
    finally:
        subscription.close()


def _respond(message: Message, running: Running[CallResult]) -> Response:
    """The response to a call that was not cancelled."""
    body, error = response_to(message, running)
    return Response(body) if error is None else Response(body, _status(error))


def _acknowledge(head: RequestHead, meta: Mapping[str, Raw]) -> Response:
    """Answer a notification with 202 and ignore it: this protocol version defines none over HTTP.

    Raises `HttpError` (400) if its version is not supported.
    """
    version = head.once(VERSION_FIELD)
    if version is None and is_modern(meta):
        version = str(jsonrpc.value(meta[PROTOCOL_VERSION_KEY]))
    try:
        admission.require_supported(version or "")
    except RpcError as error:
        raise RpcHttpError(400, error) from None
    return Response(status=202)


def _status(error: RpcError) -> int:
    """The HTTP status of an error from the pipeline: by `STATUS_OF`, 200 for other errors and `INVALID_REQUEST`."""
    if error.code == INVALID_REQUEST:
        return 200
    return STATUS_OF.get(error.code, 200)
