"""Access tokens for one upstream: the part that is the same for every grant.

A `TokenSource` keeps one token and renews it in the background before it expires. If there is none or the upstream
refused it, renewal is immediate. At most one renewal is in progress, however many calls need a token. The agent's
credentials are never used (basic/authorization forbids token passthrough).
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import msgspec
from loguru import logger

from gateway_core.errors import LoginNeeded, NotSent, UserLoginNeeded
from gateway_core.exchange.exchange import Agent
from gateway_core.upstream.auth.challenge import Challenge
from gateway_core.upstream.auth.documents import Fetcher, Refused
from gateway_core.upstream.connections.await_shared import await_shared
from gateway_core.upstream.network.access import Access

AHEAD: Final = 60.0
"""Seconds before expiry at which a token is renewed; at half its lifetime if that is less than two minutes."""
MAX_BACKOFF: Final = 30.0
"""Maximum seconds between attempts; the delay after failures doubles: 1, 2, 4, …"""
REFUSED_AGAIN: Final = 30.0
"""Seconds for which a token that replaced a refused one is not replaced again."""


class Token(msgspec.Struct, frozen=True):
    """An access token as it is sent; times are monotonic."""

    authorization: str
    obtained: float
    renew_at: float
    expires_at: float
    replaces_refused: bool

    @classmethod
    def of(cls, access_token: str, life: float, *, replaces_refused: bool, renewable: bool = True) -> Token:
        """A token that lives for `life` seconds from now on."""
        now = time.monotonic()
        ahead = min(AHEAD, life / 2) if renewable and life < math.inf else 0.0
        return cls(f"Bearer {access_token}", now, now + life - ahead, now + life, replaces_refused)


@dataclass(slots=True)
class Backoff:
    """Exponential backoff after failures."""

    failures: int = 0
    until: float = 0.0
    reason: str = ""

    @property
    def wait(self) -> float:
        return max(0.0, self.until - time.monotonic())

    def failed(self, reason: str) -> None:
        self.until = time.monotonic() + min(MAX_BACKOFF, 2.0**self.failures)
        self.failures = min(self.failures + 1, 10)
        self.reason = reason

    def succeeded(self) -> None:
        """Reset the delay for the next failure."""
        self.failures = 0


@dataclass(slots=True)
class RenewalCounts:
    """How often access tokens were requested, by the result. A first token counts, too, unless a login brought it."""

    renewed: int = 0
    failed: int = 0
    """Without a token, for a reason that may pass: the next attempt follows."""
    login_needed: int = 0
    """Without a token, because a person has to log in."""

    def succeeded(self) -> None:
        """Count a request that led to a token."""
        self.renewed += 1

    def ended(self, failure: BaseException) -> None:
        """Count a request that did not, and why."""
        if isinstance(failure, LoginNeeded | UserLoginNeeded):
            self.login_needed += 1
        else:
            self.failed += 1


class PrincipalTokens(ABC):
    """Gives each principal access tokens for one upstream."""

    def __init__(self) -> None:
        self.counts: Final = RenewalCounts()
        """Of all principals."""

    @abstractmethod
    def part(self, agent: Agent) -> str:
        """What tells this identity from others of the same principal; empty if nothing does. Called for each request.

        Raises `NoIdentity` if no token is possible for the agent, as it is.
        """

    @abstractmethod
    def source(self, agent: Agent, access: Access) -> TokenSource:
        """A new token source for the agent's identity. `access` is that of its connections, which close it."""

    @abstractmethod
    def used(self, source: TokenSource, agent: Agent) -> None:
        """Called before each request with a source that `source` returned: `agent` may have newer credentials."""


class TokenSource(ABC):
    """Keeps and renews the access token of one upstream."""

    def __init__(self, upstream: str, fetcher: Fetcher, counts: RenewalCounts | None = None) -> None:
        """`counts`: shared with other sources; None: its own."""
        self.counts: Final = RenewalCounts() if counts is None else counts
        self._upstream = upstream
        self._fetcher = fetcher
        self._token: Token | None = None
        self._task: asyncio.Task[Token] | None = None
        self._renewals = Backoff()

    @property
    def expires_at(self) -> float | None:
        """When the token expires, in seconds since 1970; None without a token, or if the time is unknown."""
        token = self._token
        if token is None or token.expires_at == math.inf:
            return None
        return round(time.time() + token.expires_at - time.monotonic(), 1)

    async def authorization(self) -> str | None:
        """The value of the `Authorization` header; None until a challenge leads to the authorization server.

        Raises `NotSent` if no token can be obtained.
        """
        now = time.monotonic()
        token = self._token
        if token is not None and now < token.renew_at:
            return token.authorization
        if token is not None and now < token.expires_at:
            if now >= self._renewals.until:
                self._renewal(None, self._renewals, replaces_refused=False)
            return token.authorization
        if not self._ready():
            return None
        return (await self._renewed(None, self._renewals)).authorization

    @abstractmethod
    async def challenged(self, authorization: str | None, status: int, challenge: Challenge) -> bool:
        """Handle a 401 or 403 answer to `authorization`: get another token if that can help.

        Returns whether to send the request again. A token that replaced a refused one is not replaced again for
        `REFUSED_AGAIN` seconds: the upstream, not the token, is then the problem. Raises `NotSent`.
        """

    def hide(self, text: str) -> str:
        """`text` without the tokens that the gateway's `HeldSecrets` do not know."""
        return text

    def clean(self, data: bytes) -> bytes:
        """A JSON message of the upstream without the tokens that the gateway's `HeldSecrets` do not know."""
        return data

    async def close(self) -> None:
        """Cancel a renewal in progress and close the HTTP sessions."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._fetcher.close()

    # -- for the grants -------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def _who(self) -> str:
        """The beginning of messages: which upstream has no token."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether a token can be requested before the upstream was asked."""

    @abstractmethod
    async def _renew(self, challenge: Challenge | None, backoff: Backoff, replaces_refused: bool) -> Token:
        """Obtain a token, count and keep it. Raises `Refused`, after it recorded the failure in `backoff`."""

    def _refused_again(self) -> bool:
        """Whether the upstream refuses even a token that just replaced a refused one."""
        token = self._token
        return token is not None and token.replaces_refused and time.monotonic() < token.obtained + REFUSED_AGAIN

    def _has_other(self, authorization: str | None) -> bool:
        """Whether the token is valid and another than `authorization`."""
        token = self._token
        return token is not None and token.authorization != authorization and time.monotonic() < token.expires_at

    async def _renewed(self, challenge: Challenge | None, backoff: Backoff, *, replaces_refused: bool = False) -> Token:
        if self._task is None and backoff.wait:
            raise NotSent(f"{self._who}: {backoff.reason}", retry_after=backoff.wait)
        task = self._renewal(challenge, backoff, replaces_refused=replaces_refused)
        try:
            return await await_shared(task, f"{self._who}: the gateway is closing")
        except Refused as failure:
            raise NotSent(f"{self._who}: {failure}", retry_after=backoff.wait) from None

    def _renewal(self, challenge: Challenge | None, backoff: Backoff, *, replaces_refused: bool) -> asyncio.Task[Token]:
        """The renewal in progress; starts one if there is none."""
        if self._task is None:
            renewing = self._renew(challenge, backoff, replaces_refused)
            self._task = asyncio.create_task(renewing, name="renew access token")
            self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, task: asyncio.Task[Token]) -> None:
        self._task = None
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.counts.ended(failure)
            logger.warning("{}: {}", self._who, failure)
