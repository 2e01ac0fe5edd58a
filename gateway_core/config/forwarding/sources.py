"""The sources of values that go from an agent to one upstream: the values of `forward`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from gateway_core.http1.tokens import TOKEN

Kind = Literal["subject", "issuer", "id", "groups", "claims", "header"]

FORM: Final = (
    "principal.subject, principal.issuer, principal.id, principal.groups, principal.claims.NAME or header:NAME, with a "
    "? at the end for a value that may be missing"
)
_SOURCE: Final = re.compile(
    r"(?:principal\.(?P<kind>subject|issuer|id|groups)|principal\.claims\.(?P<claim>[^\s\x00-\x1f\x7f?]+)|"
    rf"header:(?P<header>{TOKEN}))(?P<optional>\??)"
)
NOT_FORWARDED: Final = frozenset(
    {"authorization", "cookie", "forwarded", "host", "origin", "proxy-authenticate", "proxy-authorization", "via"}
    | {"connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
    | {"accept", "accept-encoding", "accept-language", "last-event-id", "user-agent", "referer"}
    | {"traceparent", "tracestate", "baggage", "x-request-id"}
)
"""Headers of an agent's request that belong to its connection to the gateway: credentials for it, above all."""


@dataclass(frozen=True, slots=True)
class ForwardSource:
    """One source, such as `principal.claims.email` or `header:X-Tracker-Key?`."""

    kind: Kind
    name: str = ""
    """Of a claim, or of a header in lower case."""
    optional: bool = False

    @classmethod
    def parse(cls, text: str) -> ForwardSource | None:
        """The source that `text` names; None if it names none."""
        found = _SOURCE.fullmatch(text)
        if found is None:
            return None
        optional = bool(found["optional"])
        if found["header"] is not None:
            return cls("header", found["header"].lower(), optional)
        if found["claim"] is not None:
            return cls("claims", found["claim"], optional)
        kind: Kind = found["kind"]  # type: ignore[assignment] # the pattern has no others
        return cls(kind, "", optional)

    @property
    def is_forbidden(self) -> bool:
        """Whether it is a header that belongs to the agent's connection to the gateway alone."""
        if self.kind != "header":
            return False
        return self.name in NOT_FORWARDED or self.name.startswith(("mcp-", "content-", "sec-", "access-control-"))

    def __str__(self) -> str:
        if self.kind == "header":
            return f"the header {self.name}"
        return f"principal.{self.kind}" + (f".{self.name}" if self.name else "")
