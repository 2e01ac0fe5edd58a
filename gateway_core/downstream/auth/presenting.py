"""What of a request is kept for single upstreams: the headers that `forward` names, and tokens that are exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway_core.config import ProxyConfig
from gateway_core.downstream.auth.caller import Caller
from gateway_core.exchange.presented import Presented
from gateway_core.http1.head import RequestHead


class Presenting:
    """Adds to a caller what its request presents for upstreams. Usually that is nothing."""

    def __init__(self, headers: Sequence[str] = ()) -> None:
        """`headers`: the names of the headers that upstreams get, in lower case."""
        self.headers: Final = tuple(headers)

    @classmethod
    def of(cls, config: ProxyConfig) -> Presenting:
        """What the upstreams of a configuration need."""
        sources = (source for upstream in config.upstreams for source in upstream.forward_sources.values())
        return cls(tuple(dict.fromkeys(source.name for source in sources if source.kind == "header")))

    def by(self, caller: Caller, head: RequestHead) -> Caller:
        """`caller` with what the request presents. A header that is repeated or empty counts as missing."""
        fields, repeated = head.fields, head.repeated
        headers = {name: fields[name] for name in self.headers if fields.get(name) and name not in repeated}
        if not headers:
            return caller
        return Caller(caller.address, caller.principal, Presented.of(headers))
