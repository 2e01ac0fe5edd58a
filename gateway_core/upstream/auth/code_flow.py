"""The authorization-code grant with PKCE: one login, from the authorization request to the tokens.

A `CodeFlow` serves one attempt. `begin` returns the address for the browser. `finish` takes the query with which the
browser comes back, checks it, and exchanges the code. Sources: RFC 6749, section 4.1; RFC 7636; RFC 8707; RFC 9207.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

from yarl import URL

from gateway_core.config import AuthConfig
from gateway_core.upstream.auth.challenge import MAX_SCOPES, Challenge
from gateway_core.upstream.auth.discovery import (
    OFFLINE,
    AuthorizationServer,
    configured,
    discover,
    discover_issuer,
    resource_of,
)
from gateway_core.upstream.auth.documents import Fetcher, Refused
from gateway_core.upstream.auth.endpoint import EndpointAnswer, ask, revoke
from gateway_core.upstream.auth.logins import Client, Login
from gateway_core.upstream.auth.registration import client_for, credentials_of
from gateway_core.upstream.network.access import Access

MAX_CODE: Final = 4096
_ERRORS: Final = frozenset(
    {
        "access_denied",
        "consent_required",
        "interaction_required",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "login_required",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_response_type",
    }
)
"""Error codes of an authorization response that our messages may repeat."""


class NotOurs(Exception):
    """A response that does not belong to this login, or that cannot be trusted. It changes nothing."""


class CodeFlow:
    """One attempt to log in at an upstream."""

    def __init__(
        self, url: URL, config: AuthConfig, access: Access, last: Login | None, others: Sequence[Login] = ()
    ) -> None:
        """`access`: as for `ClientCredentials`. `last`: the login that this one will replace.

        `others`: logins of others at the upstream; a client that was registered for one of them serves this one, too.
        """
        self._url = url
        self._config = config
        self._fetcher = Fetcher.of(url, config, access)
        self._last = last
        self._others = others
        self._server: AuthorizationServer | None = None
        self._client: Client | None = None
        self._redirect_uri = ""
        self._scopes: tuple[str, ...] = ()
        self.state: Final = secrets.token_urlsafe(32)
        """The `state` by which the answer of the browser is recognized."""
        self._verifier = secrets.token_urlsafe(48)  # RFC 7636, section 4.1: 43 to 128 characters

    @property
    def authorization_server(self) -> str:
        """The host of the authorization server; empty before `begin`."""
        return "" if self._server is None else self._server.token_endpoint.host or ""

    @property
    def registration(self) -> Login | None:
        """The client that was registered, as a login without tokens; None if it was not. Only after `begin`."""
        server, client = self._server, self._client
        if server is None or client is None or client.kind != "registered":
            return None
        return Login(since=0.0, url=str(self._url), issuer=server.issuer or "", client=client)

    async def begin(self, challenge: Challenge, redirect_uri: str) -> URL:
        """The address that a browser must open. Raises `Refused`.

        `challenge`: what the upstream answered to a request without a token.
        """
        server = await self._find(challenge)
        if not server.authorization_endpoint or not server.offers_codes:
            raise Refused("the authorization server offers no login by code flow with PKCE (S256)")
        endpoint = self._fetcher.address(server.authorization_endpoint)
        await self._fetcher.check_host(endpoint)
        known = [*filter(None, [self._last]), *self._others]
        client = await client_for(self._fetcher, server, self._config, known, redirect_uri)
        self._server, self._client, self._redirect_uri = server, client, redirect_uri
        self._scopes = self._wanted(server, challenge)
        digest = hashlib.sha256(self._verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": redirect_uri,
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        if resource := resource_of(self._config, server, self._url):
            query["resource"] = resource
        if self._scopes:
            query["scope"] = " ".join(self._scopes)
        if OFFLINE in self._scopes:
            query["prompt"] = "consent"  # OpenID Connect Core, section 11
        return endpoint.update_query(query)

    async def finish(self, query: Mapping[str, Sequence[str]]) -> Login:
        """Exchange the code of an authorization response for tokens.

        Raises `NotOurs` for a response to ignore, and `Refused` if the login failed.
        """
        server, client = self._server, self._client
        assert server is not None, "`begin` was called"
        assert client is not None, "`begin` was called"
        values = {name: texts[0] for name, texts in query.items() if len(texts) == 1}
        if not hmac.compare_digest(values.get("state", "").encode(), self.state.encode()):
            raise NotOurs("it does not belong to this login (state)")
        self._check_issuer(server, query)
        if "error" in query:
            code = values.get("error", "")
            raise Refused("the authorization server refused" + (f" ({code})" if code in _ERRORS else ""))
        code = values.get("code", "")
        if not code or len(code) > MAX_CODE:
            raise Refused("the authorization server sent no code")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": self._verifier,
        }
        if resource := resource_of(self._config, server, self._url):
            form["resource"] = resource
        try:
            answer = await ask(self._fetcher, server, credentials_of(client, self._config), form)
        except Refused as failure:
            raise Refused(f"the code was not exchanged for a token: {failure}") from None
        return self._login(server, client, answer)

    async def close(self) -> None:
        """Close the HTTP sessions."""
        await self._fetcher.close()

    async def _find(self, challenge: Challenge) -> AuthorizationServer:
        server = configured(self._config)
        if server is not None:
            return server
        issuer = self._config.issuer
        if issuer is None and self._last is not None and self._config.client_id == self._last.client.id:
            issuer = self._last.issuer  # a configured client belongs to the server of its first login
        return await discover(self._fetcher, self._url, challenge, issuer)

    def _wanted(self, server: AuthorizationServer, challenge: Challenge) -> tuple[str, ...]:
        """The scopes to ask for (Scope Selection Strategy, Step-Up Authorization Flow)."""
        if self._config.scope is not None:
            return tuple(self._config.scope.split())
        last = self._last if self._last is not None and self._last.issuer == (server.issuer or "") else None
        earlier = () if last is None else (*last.scopes, *last.wanted)
        wanted = tuple(dict.fromkeys((*earlier, *challenge.scopes)))[: MAX_SCOPES - 1] or server.scopes
        return (*wanted, OFFLINE) if wanted and server.offers_offline and OFFLINE not in wanted else wanted

    def _check_issuer(self, server: AuthorizationServer, query: Mapping[str, Sequence[str]]) -> None:
        """Compare `iss` with the issuer as text (Authorization Response Validation). Raises `Refused`."""
        given = query.get("iss", ())
        if not given and not server.sends_issuer:
            return
        if not given:
            raise Refused("the answer does not name its issuer (iss), which this authorization server always does")
        if server.issuer is None:
            raise Refused("the answer names an issuer (iss): write the issuer into the auth of the upstream")
        if list(given) != [server.issuer]:
            raise Refused("the answer is from another authorization server (iss)")

    def _login(self, server: AuthorizationServer, client: Client, answer: EndpointAnswer) -> Login:
        now = time.time()
        return Login(
            since=now,
            url=str(self._url),
            issuer=server.issuer or "",
            client=client,
            access_token=answer.access_token,
            refresh_token=answer.refresh,
            expires_at=now + answer.life if answer.life < math.inf else None,
            scopes=answer.granted or self._scopes,
        )


async def revoke_login(url: URL, config: AuthConfig, access: Access, login: Login) -> None:
    """Revoke the tokens of a login at its authorization server (RFC 7009). Raises `Refused`."""
    fetcher = Fetcher.of(url, config, access)
    tokens = [("refresh_token", login.refresh_token), ("access_token", login.access_token)]
    try:
        if not login.issuer:
            raise Refused("the issuer is not known")
        server = await discover_issuer(fetcher, login.issuer)
        if not server.revocation_endpoint:
            raise Refused("the authorization server has no revocation endpoint")
        for kind, token in tokens:
            if token:
                await revoke(fetcher, server, credentials_of(login.client, config), token, kind)
    finally:
        await fetcher.close()
