"""Access tokens for one upstream, by the OAuth 2.0 client-credentials grant (RFC 6749, section 4.4).

A `TokenSource` keeps one token and renews it: ahead of its expiry in the background, at once when there is none or
the upstream refused it. However many requests need a token, one request to the token endpoint is under way. The
agent's own credentials never come here (basic/authorization: no other tokens are passed through).
"""

from __future__ import annotations

import asyncio
import base64
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_plus

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, hdrs
from loguru import logger
from yarl import URL

from gateway_core.config import AuthConfig
from gateway_core.errors import NotSent
from gateway_core.upstream.answers import JSON

AHEAD: Final = 60.0
"""Seconds before its expiry at which a token is renewed (half its life for those that live less than two minutes)."""
TIMEOUT: Final = 10.0
MAX_ANSWER: Final = 64 * 1024
MAX_BACKOFF: Final = 30.0
"""Seconds; after a failure the token endpoint is left alone for 1, 2, 4, … up to this."""
REFUSED_AGAIN: Final = 30.0
"""Seconds during which a token that replaced a refused one is not replaced in its turn."""

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")
_ERRORS: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "invalid_scope",
        "invalid_target",
        "unauthorized_client",
        "unsupported_grant_type",
        "server_error",
        "temporarily_unavailable",
    }
)
"""Codes of RFC 6749 section 5.2 and RFC 8707: the only words of a token endpoint that are repeated."""


class _Answer(msgspec.Struct):
    access_token: str = ""
    token_type: str = "bearer"  # noqa: S105 - the kind of token, not one
    expires_in: float | str | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    authorization: str
    obtained: float
    renew_at: float
    expires_at: float
    replaces_refused: bool


class _Refused(Exception):
    """The token endpoint gave no token. The text has no secrets."""

    def __init__(self, reason: str, *, wrong_client: bool = False) -> None:
        super().__init__(reason)
        self.wrong_client = wrong_client


class TokenSource:
    """The token of one upstream."""

    def __init__(self, upstream: str, config: AuthConfig, session: Callable[[], ClientSession]) -> None:
        """`session` gives the HTTP session to use; it must follow no redirects and keep no cookies of its own."""
        self._config = config
        self._session = session
        self._who = f"no access token for upstream {upstream!r} from {URL(config.token_url).host}"
        self._token: _Token | None = None
        self._task: asyncio.Task[_Token] | None = None
        self._secret_in_body: bool | None = None
        """How this endpoint wants the client's secret; None until one way has worked."""
        self._failures = 0
        self._not_before = 0.0
        self._last_failure = ""

    async def authorization(self) -> str:
        """The value of the `Authorization` header. Raises `NotSent` when there is no token to be had."""
        now = time.monotonic()
        token = self._token
        if token is not None and now < token.renew_at:
            return token.authorization
        if token is not None and now < token.expires_at:
            if now >= self._not_before:
                self._renewal(replaces_refused=False)
            return token.authorization
        return (await self._renewed(replaces_refused=False)).authorization

    async def refused(self, authorization: str) -> bool:
        """The upstream answered 401 to `authorization`. Get another token.

        Returns whether there is one to try. A token that itself replaced a refused one is not replaced again for
        `REFUSED_AGAIN` seconds: then the upstream, not the token, is the problem. Raises `NotSent`.
        """
        token = self._token
        if token is not None and token.authorization != authorization:
            return True
        if token is not None and token.replaces_refused and time.monotonic() < token.obtained + REFUSED_AGAIN:
            return False
        await self._renewed(replaces_refused=True)
        return True

    async def close(self) -> None:
        """Give up a renewal that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _renewed(self, *, replaces_refused: bool) -> _Token:
        if self._task is None and (wait := self._not_before - time.monotonic()) > 0:
            raise NotSent(f"{self._who}: {self._last_failure}", retry_after=wait)
        task = self._renewal(replaces_refused=replaces_refused)
        try:
            # Shielded: one request that is cancelled must not end the renewal that others wait for.
            return await asyncio.shield(task)
        except _Refused as failure:
            wait = max(0.0, self._not_before - time.monotonic())
            raise NotSent(f"{self._who}: {failure}", retry_after=wait) from None
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task.cancelled() and current is not None and not current.cancelling():
                raise NotSent(f"{self._who}: the gateway is closing") from None
            raise

    def _renewal(self, *, replaces_refused: bool) -> asyncio.Task[_Token]:
        """The one renewal under way, started now if there is none."""
        if self._task is None:
            self._task = asyncio.create_task(self._renew(replaces_refused), name="renew access token")
            self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, task: asyncio.Task[_Token]) -> None:
        self._task = None
        if task.cancelled():
            return
        failure = task.exception()
        if failure is None:
            return
        self._last_failure = str(failure)
        logger.warning("{}: {}", self._who, failure)

    async def _renew(self, replaces_refused: bool) -> _Token:
        try:
            answer = await self._ask()
        except _Refused:
            self._not_before = time.monotonic() + min(MAX_BACKOFF, 2.0**self._failures)
            self._failures = min(self._failures + 1, 10)
            raise
        self._failures = 0
        now = time.monotonic()
        life = _seconds(answer.expires_in)
        self._token = _Token(
            authorization=f"Bearer {answer.access_token}",
            obtained=now,
            renew_at=now + life - min(AHEAD, life / 2) if life < math.inf else life,
            expires_at=now + life,
            replaces_refused=replaces_refused,
        )
        return self._token

    async def _ask(self) -> _Answer:
        """Ask for a token; the secret goes into a header, or into the body if the endpoint knows only that."""
        if self._secret_in_body is not None:
            return await self._post(self._secret_in_body)
        try:
            answer = await self._post(False)
        except _Refused as refusal:
            if not refusal.wrong_client:
                raise
            answer = await self._post(True)
            self._secret_in_body = True
        else:
            self._secret_in_body = False
        return answer

    async def _post(self, secret_in_body: bool) -> _Answer:
        config = self._config
        secret = config.client_secret.get_secret_value()
        form = {"grant_type": "client_credentials"}
        if config.scope is not None:
            form["scope"] = config.scope
        if config.resource is not None:
            form["resource"] = config.resource
        headers: dict[str, str] = {hdrs.ACCEPT: JSON}
        if secret_in_body:
            form |= {"client_id": config.client_id, "client_secret": secret}
        else:
            pair = f"{quote_plus(config.client_id)}:{quote_plus(secret)}"  # RFC 6749, section 2.3.1
            headers[hdrs.AUTHORIZATION] = "Basic " + base64.b64encode(pair.encode()).decode()
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._session().post(
                    config.token_url, data=form, headers=headers, allow_redirects=False, timeout=ClientTimeout()
                ) as response,
            ):
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise _Refused(f"its answer is larger than {MAX_ANSWER} bytes")
                return _read(response.status, bytes(body))
        except TimeoutError:
            raise _Refused(f"no answer within {TIMEOUT:g} s") from None
        except (ClientError, OSError) as error:
            raise _Refused(f"not reachable ({type(error).__name__})") from None


def _read(status: int, body: bytes) -> _Answer:
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        answer = None
    if status != 200:
        code = answer.error if answer is not None and answer.error in _ERRORS else ""
        raise _Refused(
            f"HTTP {status}" + (f" ({code})" if code else ""),
            wrong_client=status in {400, 401} and code == "invalid_client",
        )
    if answer is None or _TOKEN.fullmatch(answer.access_token) is None:
        raise _Refused("its answer has no usable access_token")
    if answer.token_type.lower() != "bearer":
        raise _Refused("its token is not a bearer token")
    return answer


def _seconds(expires_in: float | str | None) -> float:
    """The life of a token. One that does not tell lives until it is refused."""
    try:
        seconds = float(expires_in) if expires_in is not None else math.inf
    except ValueError:
        return math.inf
    return math.inf if math.isnan(seconds) else max(0.0, seconds)
