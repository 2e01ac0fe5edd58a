"""Reads the headers of an agent's request: era, session, accepted responses, routing headers, parameters."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from gateway_core.downstream.streams.stream import Accepts
from gateway_core.errors import HEADER_MISMATCH, RpcError
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.media_types import EVENT_STREAM, JSON
from gateway_core.mcp.names import (
    HANDSHAKE_PROTOCOL_VERSIONS,
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PARAM_HEADER_PREFIX,
    MCP_PROTOCOL_VERSION_HEADER,
    MCP_SESSION_ID_HEADER,
)

SESSION_FIELD: Final = MCP_SESSION_ID_HEADER.lower()
VERSION_FIELD: Final = MCP_PROTOCOL_VERSION_HEADER
_REFUSED: Final = re.compile(r"q=0(\.0{0,3})?")
"""The weight that means "not acceptable" (RFC 9110 12.4.2)."""
_PARAM_PREFIX: Final = MCP_PARAM_HEADER_PREFIX.lower()
_HEADER_TEXT: Final = re.compile(r"[\t\x20-\x7e]*")
_ROUTING: Final = (MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)
_BOTH: Final = Accepts()


class HeaderFacts(msgspec.Struct, frozen=True):
    """What the headers of all requests say that share a route."""

    has_legacy_version: bool
    """Whether the version is absent or a legacy one."""
    is_legacy: bool
    """Whether they suit a legacy request: a legacy version or none, or a session id."""
    acceptable: Accepts
    """See `accepted`."""
    has_params: bool
    """Whether there are `Mcp-Param-*` headers."""

    @property
    def accepted(self) -> Accepts:
        """The accepted forms of a response. Raises `HttpError` (406) if they include neither JSON nor a stream."""
        found = self.acceptable
        if not (found.json or found.stream):
            raise HttpError(406, f"answers are {JSON} or {EVENT_STREAM}, and Accept names neither")
        return found


def facts_of(head: RequestHead) -> HeaderFacts:
    """What the headers say that are equal in all requests of the head's route."""
    facts: HeaderFacts | None = head.route.facts
    if facts is None:
        fields = head.fields
        version = fields.get(VERSION_FIELD)
        legacy = version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
        accepts = _accepts(fields["accept"]) if "accept" in fields else _BOTH
        has_params = any(name.startswith(_PARAM_PREFIX) for name in fields)
        facts = HeaderFacts(legacy, legacy or SESSION_FIELD in fields, accepts, has_params)
        head.route.learn(facts)
    return facts


def session_of(head: RequestHead) -> tuple[str | None, bool]:
    """The session id, and whether the version is absent or a legacy one.

    Raises `HttpError` (400) if either header is repeated.
    """
    if head.repeated:
        head.once(VERSION_FIELD), head.once(SESSION_FIELD)
    return head.fields.get(SESSION_FIELD), facts_of(head).has_legacy_version


def require_stream(head: RequestHead) -> Accepts:
    """The accepted forms of a response. Raises `HttpError` (406) if they do not include a stream."""
    found = facts_of(head).accepted
    if not found.stream:
        raise HttpError(406, f"the answer is {EVENT_STREAM}, which Accept does not name")
    return found


def check_routing(head: RequestHead) -> None:
    """Raise `RpcError(HEADER_MISMATCH)` if a header that mirrors the body of a modern request is repeated."""
    if head.repeated:
        for name in _ROUTING:
            if name in head.repeated:
                raise RpcError.of_gateway(HEADER_MISMATCH, f"the header {name} is given more than once")


def param_headers(head: RequestHead) -> tuple[tuple[str, str], ...]:
    """The `Mcp-Param-*` headers, which are passed on to the upstream.

    Raises `RpcError(HEADER_MISMATCH)` if one has invalid characters or is repeated.
    """
    if not facts_of(head).has_params:
        return ()
    found = tuple(item for item in head.fields.items() if item[0].startswith(_PARAM_PREFIX))
    for name, value in found:
        if name in head.repeated:
            raise RpcError.of_gateway(HEADER_MISMATCH, "an Mcp-Param header is given more than once")
        if _HEADER_TEXT.fullmatch(value) is None:
            raise RpcError.of_gateway(HEADER_MISMATCH, f"the header {name} contains invalid characters")
    return found


@lru_cache(maxsize=256)
def _accepts(value: str) -> Accepts:
    wanted: dict[str, bool] = {}
    for part in value.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        wanted[media_type] = not any(_REFUSED.fullmatch(parameter) for parameter in parameters)

    def allows(media_type: str) -> bool:
        # The most specific entry decides (RFC 9110 12.5.1).
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        return next((wanted[name] for name in ranges if name in wanted), False)

    return Accepts(allows(JSON), allows(EVENT_STREAM), names_stream=wanted.get(EVENT_STREAM, False))


def check_json(head: RequestHead) -> None:
    """Raise `HttpError` unless the body is uncompressed JSON: 415, or 400 if a header is repeated."""
    content_type = head.once("content-type") or ""
    if content_type != JSON and content_type.partition(";")[0].strip().lower() != JSON:
        raise HttpError(415, f"the Content-Type must be {JSON}")
    if "content-encoding" in head.fields and (head.once("content-encoding") or "").lower() != "identity":
        raise HttpError(415, "compressed bodies are not accepted")
