"""The identity in whose name a request goes to one upstream: the principal, forwarded values, and access tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway_core.api import Principal
from gateway_core.config import UpstreamConfig
from gateway_core.config.forwarding.sources import ForwardSource
from gateway_core.errors import NoIdentity
from gateway_core.exchange.exchange import Agent
from gateway_core.upstream.auth import PrincipalTokens

MAX_VALUE: Final = 8 * 1024
"""Maximum characters of a forwarded value."""
_VALUE: Final = re.compile(r"[!-~](?:[\t -~]*[!-~])?")
"""Visible ASCII: how others are encoded in a header is not defined (RFC 9110, 5.5)."""
_KEY: Final = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity at one upstream."""

    key: str
    """Differs for other principals, values and tokens, and between processes. It reveals none of them."""
    principal: str
    """The id of the principal."""
    headers: Mapping[str, str] = field(repr=False)
    """The forwarded headers."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """The values that came from headers of the agent."""


class IdentityRule:
    """Finds the identity of an agent at one upstream."""

    def __init__(self, config: UpstreamConfig, tokens: PrincipalTokens | None) -> None:
        """`tokens`: the access tokens of principals, if they have any for this upstream."""
        self._sources = config.forward_sources
        self._tokens = tokens

    def identity(self, agent: Agent) -> Identity:
        """The identity of an agent. Raises `NoIdentity` with what is missing."""
        headers: dict[str, str] = {}
        given: list[str] = []
        for name, source in self._sources.items():
            value = _value(source, agent)
            if value is not None:
                headers[name] = value
                if source.kind == "header":
                    given.append(value)
            elif not source.optional:
                raise NoIdentity(_missing(name, source, agent.principal))
        part = "" if self._tokens is None else self._tokens.part(agent)
        key = _digest((agent.principal.id, part, *(text for item in headers.items() for text in item)))
        return Identity(key, agent.principal.id, headers, tuple(given))


def _digest(texts: Iterable[str]) -> str:
    data = b"".join(b"%d:%b" % (len(text), text.encode("utf-8", "surrogateescape")) for text in texts)
    return hashlib.blake2b(data, key=_KEY, digest_size=16).hexdigest()


def _missing(name: str, source: ForwardSource, principal: Principal) -> str:
    if source.kind == "header":
        return f"the request lacks the header {source.name}, which this upstream gets as {name}"
    if not principal.verified:
        return f"it is not verified who calls, and this upstream gets {source} as {name}"
    return f"the caller has no {source}, which this upstream gets as {name}"


def _value(source: ForwardSource, agent: Agent) -> str | None:
    """The value of a source; None if it is missing. Raises `NoIdentity` for one that no header can carry."""
    if source.kind == "header":
        text = agent.presented.header(source.name)
    elif not agent.principal.verified:
        return None
    else:
        text = _text(source, _found(source, agent.principal))
    if not text:
        return None
    if len(text) > MAX_VALUE or _VALUE.fullmatch(text) is None:
        raise NoIdentity(f"{source} is longer than {MAX_VALUE} or has characters that no header may have")
    return text


def _found(source: ForwardSource, principal: Principal) -> Any:
    if source.kind == "claims":
        return principal.claims.get(source.name)
    return getattr(principal, source.kind)


def _text(source: ForwardSource, value: Any) -> str | None:
    """A value as the text of a header: several ones are separated by commas. Raises `NoIdentity`."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple | frozenset) and all(isinstance(it, str) for it in value):
        if any("," in it for it in value):
            raise NoIdentity(f"{source} has a value with a comma, which would look like two")
        return ",".join(sorted(value) if isinstance(value, frozenset) else value)
    raise NoIdentity(f"{source} is neither text nor a number nor a list of texts")
