"""Checks of what agents send for one upstream against the other keys: `forward`, and the exchange of their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway_core.config.forwarding.sources import ForwardSource


def check_forward(
    proxy: dict[str, Any], upstream: dict[str, Any], forward: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the headers of `forward` that something else writes, or whose source others decide, with what to do."""
    headers = upstream.get("headers")
    written = {name.lower(): "headers" for name in headers} if isinstance(headers, dict) else {}
    if "auth" in upstream:
        written["authorization"] = "auth"
    proxies = proxy.get("trusted_proxies")
    named = proxies.get("identity_header") if isinstance(proxies, dict) else None
    for name, source in forward.items():
        if (other := written.get(name.lower())) is not None:
            yield name, f"is also written by this upstream's {other}; remove one of the two"
        written[name.lower()] = "forward"
        found = ForwardSource.parse(source) if isinstance(source, str) else None
        if found is not None and found.kind == "header" and isinstance(named, str) and found.name == named.lower():
            yield (
                name,
                "names the header in which trusted proxies name their client, which others could write; "
                'write "principal.subject" instead',
            )


def check_exchange(auth: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys of `auth` that a token exchange lacks, or that only it would use, with what to do."""
    if auth.get("grant") != "token_exchange":
        for key in ("audience", "subject_token_type"):
            if key in auth:
                yield key, 'has no effect without grant = "token_exchange"; remove it'
    elif "token_url" not in auth and "issuer" not in auth:
        yield (
            "issuer",
            'or token_url is required for grant = "token_exchange": it decides who gets the access tokens of agents, '
            "which the upstream must not choose",
        )
