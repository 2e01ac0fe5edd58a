"""What of a request is kept for single upstreams: the headers that `forward` names, and tokens that are exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway_core.api import Credentials
from gateway_core.config import ProxyConfig
from gateway_core.downstream.auth.caller import Caller
from gateway_core.exchange.presented import Presented, rights_of
from gateway_core.http1.head import RequestHead

AUTHORIZATION: Final = "authorization"


class Presenting:
    """Adds to a caller what its request presents for upstreams. Usually that is nothing."""

    def __init__(self, headers: Sequence[str] = (), *, tokens: bool = False) -> None:
        """`headers`: the names of the headers that upstreams get, in lower case. `tokens`: keep access tokens."""
        self.headers: Final = tuple(headers)
        self._tokens = tokens

    @classmethod
    def of(cls, config: ProxyConfig) -> Presenting:
        """What the upstreams of a configuration need."""
        sources = (source for upstream in config.upstreams for source in upstream.forward_sources.values())
        tokens = any(one.auth is not None and one.auth.grant == "token_exchange" for one in config.upstreams)
        return cls(tuple(dict.fromkeys(it.name for it in sources if it.kind == "header")), tokens=tokens)

    def by(self, caller: Caller, head: RequestHead) -> Caller:
        """`caller` with what the request presents. A header that is repeated or empty counts as missing."""
        fields, repeated = head.fields, head.repeated
        headers = {name: fields[name] for name in self.headers if fields.get(name) and name not in repeated}
        token = _token(caller, head) if self._tokens else None
        if not headers and token is None:
            return caller
        rights = "" if token is None or caller.principal is None else rights_of(caller.principal)
        return Caller(caller.address, caller.principal, Presented.of(headers, token, rights=rights), caller.profile)


def _token(caller: Caller, head: RequestHead) -> str | None:
    """The access token that proved the caller; None if an authorization server does not vouch for it."""
    principal = caller.principal
    if principal is None or not principal.issuer.startswith(("https://", "http://")) or AUTHORIZATION in head.repeated:
        return None
    return Credentials({AUTHORIZATION: head.fields.get(AUTHORIZATION, "")}).bearer
