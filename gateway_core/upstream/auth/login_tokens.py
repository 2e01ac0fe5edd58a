"""Access tokens of a login (authorization-code grant): kept in `Logins`, renewed with the refresh token.

The authorization server that is asked for renewal is found by the issuer of the login; the upstream cannot name
another. Refresh tokens may be used once only (rotation), so a process that renews leases the login before, and other
processes with the same file wait for its result. Nothing here opens a browser: without a usable login, requests fail
with `LoginNeeded` until there is a new one; with `UserLoginNeeded` if the login is that of a principal.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, Final

from loguru import logger
from msgspec.structs import replace
from yarl import URL

from gateway_core.concealing import HeldSecrets
from gateway_core.config import AuthConfig
from gateway_core.errors import LoginNeeded, NotSent, RefusedUpstream, UserLoginNeeded
from gateway_core.files import Unusable
from gateway_core.upstream.auth.challenge import MAX_SCOPES, Challenge
from gateway_core.upstream.auth.discovery import (
    AuthorizationServer,
    configured,
    discover,
    discover_issuer,
    resource_of,
)
from gateway_core.upstream.auth.documents import Fetcher, Refused
from gateway_core.upstream.auth.endpoint import EndpointAnswer, ask
from gateway_core.upstream.auth.login_state import is_end, is_same, over, renewed, why_unusable
from gateway_core.upstream.auth.logins import GATEWAY, Change, Login, Logins, learn_secrets
from gateway_core.upstream.auth.registration import credentials_of
from gateway_core.upstream.auth.tokens import Backoff, RenewalCounts, Token, TokenSource
from gateway_core.upstream.network.access import Access

RENEWAL: Final = 45.0
"""Seconds for one renewal, discovery included."""
LEASE: Final = RENEWAL + 15.0
"""Seconds for which a process may renew a login, while others with the same file wait."""
NO_LOGIN: Final = (0.0, "")
"""`LoginTokens.stamp` without a login."""
CLOSE_PATIENCE: Final = 3.0
"""Seconds that a renewal in progress gets to end when the gateway stops."""
LEASE_CHECK: Final = 0.25
"""Seconds between two looks at a login that another process renews."""


class LoginTokens(TokenSource):
    """The access token of one identity's login at one upstream."""

    def __init__(
        self,
        upstream: str,
        url: URL,
        config: AuthConfig,
        access: Access,
        *,
        logins: Logins,
        identity: str = GATEWAY,
        counts: RenewalCounts | None = None,
    ) -> None:
        """`access`: as for `ClientCredentials`. `counts`: see `TokenSource`."""
        super().__init__(upstream, Fetcher.of(url, config, access), counts)
        self._url = url
        self._config = config
        self._access = access
        self._logins = logins
        self._identity = identity
        self._held = HeldSecrets()
        """The tokens of a principal, which nothing else hides."""
        self._login: Login | None = None
        """The login that `_token` belongs to."""
        self._server: AuthorizationServer | None = None
        self._server_asked = False
        """Whether a request was sent without a token because the upstream's addresses were not known yet."""

    def clean(self, data: bytes) -> bytes:
        return self._held.clean(data)

    def hide(self, text: str) -> str:
        return self._held.clean_line(text.encode()).decode(errors="replace")

    def _learn(self, login: Login) -> None:
        if not self._is_own:
            learn_secrets(self._held, self._upstream, login)

    @property
    def login(self) -> Login | None:
        """The present login, usable or not."""
        return self._logins.of(self._identity, self._upstream)

    def why_unusable(self) -> str:
        """Why the present login cannot be used; empty if it can."""
        return why_unusable(self.login, self._url, self._config)

    def report(self) -> dict[str, Any]:
        """The state of the login as JSON, without secrets."""
        login, reason = self.login, self.why_unusable()
        users, due = self._users()
        found: dict[str, Any] = {"needed": bool(reason), "reason": reason or None, "users": users, "users_due": due}
        if login is None:
            return {**found, "issuer": None, "scopes": [], "wanted": [], "expires_in": None, "renewable": False}
        return {
            **found,
            "issuer": login.issuer or None,
            "scopes": list(login.scopes),
            "wanted": [scope for scope in login.wanted if scope not in login.scopes],
            "expires_in": None if login.expires_at is None else round(max(0.0, login.expires_at - time.time()), 1),
            "renewable": bool(login.refresh_token),
        }

    def _users(self) -> tuple[int, int] | tuple[None, None]:
        """How many users have a login, and how many of these logins cannot be used; None if no user logs in here."""
        if self._config.identity == "gateway":
            return None, None
        logins = [login for identity, login in self._logins.at(self._upstream).items() if identity != GATEWAY]
        return len(logins), sum(bool(why_unusable(login, self._url, self._config)) for login in logins)

    @property
    def expires_at(self) -> float | None:
        login = self.login
        return login.expires_at if login is not None and login.access_token else None

    @property
    def stamp(self) -> tuple[float, str]:
        """A value that differs for each login and after its end, but not after a renewal."""
        login = self.login
        return NO_LOGIN if login is None else login.stamp

    async def changed(self, stamp: tuple[float, str]) -> None:
        """Wait until there is another login than that of `stamp`."""
        while self.stamp == stamp:
            await self._logins.changed()

    async def authorization(self) -> str | None:
        login = self.login
        if login is None and self._is_own:
            return None  # perhaps the upstream needs none
        if login is not self._login or not self._has_other(None):
            if reason := self.why_unusable():
                raise self._needed(reason)
            self._adopt()
        return await super().authorization()

    async def challenged(self, authorization: str | None, status: int, challenge: Challenge) -> bool:
        reason = self.why_unusable()
        if status == 403:
            if challenge.error == "insufficient_scope" and not reason:
                raise await self._lacking(challenge)
            return False
        if reason:
            raise self._needed(reason)
        self._adopt()
        if self._has_other(authorization):
            return True
        if self._refused_again():
            again = f"if that stays so, {self._again}"
            raise RefusedUpstream(f"HTTP 401: it refuses new access tokens, too; {again}", status=401)
        if self._login is not None and not self._login.refresh_token:
            raise await self._refused(self._login)
        await self._renewed(challenge, self._renewals, replaces_refused=authorization is not None)
        return True

    async def close(self) -> None:
        if self._task is not None:  # a rotated refresh token that was not stored would be lost
            await asyncio.wait([self._task], timeout=CLOSE_PATIENCE)
        await super().close()

    @property
    def _is_own(self) -> bool:
        """Whether the login is the gateway's own, for which the operator logs in."""
        return self._identity == GATEWAY

    @property
    def _again(self) -> str:
        """How to log in again."""
        if self._is_own:
            return f"the operator logs in again: rad mcp proxy login {self._upstream}"
        return f"the operator ends the login: rad mcp proxy logout {self._upstream} --as '{self._identity}'"

    @property
    def _who(self) -> str:
        where = f" from {self._server.token_endpoint.host}" if self._server is not None else ""
        return f"no access token for upstream {self._upstream!r}{where}"

    def _needed(self, reason: str) -> NotSent:
        if not self._is_own:
            return UserLoginNeeded(self._upstream, reason)
        command = f"rad mcp proxy login {self._upstream}"
        return LoginNeeded(f"a login is needed, {reason}; the operator logs in with: {command}")

    async def _refused(self, login: Login) -> NotSent:
        """The error for a refused login without a refresh token; that of a user has ended."""
        reason = "the upstream refuses the access token, and there is no refresh token"
        if not self._is_own:
            await self._change(lambda found: replace(login, ended=reason) if is_same(found, login) else found)
        return self._needed(reason)

    def _ready(self) -> bool:
        """With a login, unless the upstream was never reached: its addresses decide which ones may be asked."""
        if self._access.addresses or self._server_asked:
            return True
        self._server_asked = True
        return False

    def _adopt(self) -> None:
        """Use the access token of the present login, if it is another than before."""
        login = self.login
        if login is self._login or login is None:
            return
        before, self._login = self._login, login
        self._learn(login)
        if before is not None and before.since != login.since:
            self._renewals.succeeded()
        if not login.access_token:
            self._token = None
        elif before is None or (before.access_token, before.expires_at) != (login.access_token, login.expires_at):
            self._token = _token(login, replaces_refused=False)

    async def _lacking(self, challenge: Challenge) -> RefusedUpstream | UserLoginNeeded:
        """Record the scopes that the upstream asks for, and return the error that says what to do."""
        login = self.login
        assert login is not None, "checked by the caller"
        missing = tuple(scope for scope in challenge.scopes if scope not in login.scopes)
        words = f" ({' '.join(missing)})" if missing else ""
        text = f"HTTP 403: it asks for scopes that the login does not have{words}"
        if not missing:
            return RefusedUpstream("HTTP 403: it says that the login lacks scopes, and names no new ones", status=403)
        if self._config.scope is not None:
            return RefusedUpstream(
                f"{text}; the operator adds them to scope in its auth, and then {self._again}", status=403
            )
        if not set(missing) <= set(login.wanted):

            def want(login: Login | None) -> Login | None:
                wanted = () if login is None else tuple(dict.fromkeys((*login.wanted, *missing)))[:MAX_SCOPES]
                return login if login is None else replace(login, wanted=wanted)

            await self._change(want)
        if not self._is_own:
            return UserLoginNeeded(self._upstream, f"it asks for scopes that the login does not have{words}")
        return RefusedUpstream(f"{text}; to grant them, {self._again}", status=403)

    # -- renewal --------------------------------------------------------------------------------------------------

    async def _renew(self, challenge: Challenge | None, backoff: Backoff, replaces_refused: bool) -> Token:
        assert self._login is not None, "checked before"
        try:
            login, is_mine = await self._claim(self._login)
            if is_mine:
                login = await self._refresh(login, challenge)
                self.counts.succeeded()
        except Refused as failure:
            backoff.failed(str(failure))
            self._server = None  # its endpoint may have moved
            raise
        backoff.succeeded()
        self._login = login
        self._learn(login)
        self._token = _token(login, replaces_refused=replaces_refused)
        return self._token

    async def _claim(self, known: Login) -> tuple[Login, bool]:
        """Lease the login `known` for its renewal. Returns False with the login that another process has renewed."""
        while True:
            now, is_mine = time.time(), False

            def lease(found: Login | None) -> Login | None:
                nonlocal is_mine
                is_mine = is_same(found, known) and found is not None and found.leased_until <= now  # noqa: B023
                return replace(found, leased_until=now + LEASE) if is_mine and found is not None else found  # noqa: B023

            found = await self._change(lease)
            if found is None or (reason := self.why_unusable()):
                raise self._needed(reason if found is not None else "there is no login any more")
            if is_mine or not is_same(found, known):
                return found, is_mine
            await asyncio.sleep(LEASE_CHECK)

    async def _refresh(self, login: Login, challenge: Challenge | None) -> Login:
        """Use the refresh token, and store what came of it. Raises `Refused` and `LoginNeeded`."""
        if not login.refresh_token:
            raise self._needed("the login has expired")
        after = replace(login, leased_until=0.0)
        try:
            async with asyncio.timeout(RENEWAL):
                answer = await self._ask(login, challenge)
            after = renewed(after, answer)
        except TimeoutError:
            raise Refused(f"not renewed within {RENEWAL:g} s") from None
        except Refused as failure:
            if is_end(login, failure.code):
                after = over(after, failure.code)
                raise self._needed(after.ended) from None
            raise
        finally:
            await self._change(lambda found: after if is_same(found, login) else found)
        if self.login is None:
            raise self._needed("there is no login any more")
        return self.login

    async def _ask(self, login: Login, challenge: Challenge | None) -> EndpointAnswer:
        if challenge is not None or self._server is None:
            self._server = await self._find(login, challenge)
        form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token}
        if resource := resource_of(self._config, self._server, self._url):
            form["resource"] = resource
        return await ask(self._fetcher, self._server, credentials_of(login.client, self._config), form)

    async def _find(self, login: Login, challenge: Challenge | None) -> AuthorizationServer:
        """The authorization server of the login, which the upstream must still name if it refused a token."""
        server = configured(self._config)
        if server is not None:
            return server
        if challenge is not None or not login.issuer:
            return await discover(self._fetcher, self._url, challenge or Challenge(), login.issuer or None)
        return await discover_issuer(self._fetcher, login.issuer)

    async def _change(self, change: Change) -> Login | None:
        """Change the login. If the file cannot be written, the change applies in memory."""
        try:
            return await self._logins.change(self._identity, self._upstream, change)
        except (OSError, Unusable) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else problem
            logger.warning(
                "the login at upstream {} cannot be stored: {}; after a restart it may be lost", self._upstream, reason
            )
            return self.login


def _token(login: Login, *, replaces_refused: bool) -> Token:
    life = math.inf if login.expires_at is None else max(0.0, login.expires_at - time.time())
    renewable = bool(login.refresh_token)
    return Token.of(login.access_token, life, replaces_refused=replaces_refused, renewable=renewable)
