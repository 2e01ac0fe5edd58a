"""Attempts of principals to log in at upstreams, with a browser that returns to the gateway.

An attempt begins with a call that needs a login. The agent's user opens the page of the attempt, goes on to the
authorization server, and returns. All calls of one principal to one upstream share one attempt.

The person in the browser must be the person behind the agent (client/elicitation, Phishing). A browser *proves* that by
credentials that it sends itself, or because nothing but this machine reaches the gateway. Any other browser is shown a
code after the login; the login is stored once the agent has brought that code.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from loguru import logger
from yarl import URL

from gateway_core.api import Principal
from gateway_core.concealing import LOGIN_PAGES
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import UPSTREAM_UNAVAILABLE, DeliveryError, RpcError, overloaded
from gateway_core.files import Unusable
from gateway_core.upstream.auth.code_flow import CodeFlow, NotOurs, revoke_login
from gateway_core.upstream.auth.documents import Refused
from gateway_core.upstream.auth.logins import Login, Logins
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.login_probe import challenge_of
from gateway_core.upstream.user_logins.attempt import LoginAttempt, Step

Result = TypeVar("Result")

LIFE: Final = 600.0
"""Seconds until an attempt lapses."""
BEGIN: Final = 40.0
"""Seconds to find the authorization server, and to register a client there."""
FINISH: Final = 30.0
"""Seconds to exchange a code."""
CLOSE: Final = 2.0
"""Seconds that the end of the gateway waits for logins that are being stored or revoked."""
MAX_ATTEMPTS: Final = 1000
"""Attempts at a time, of all principals."""
MAX_BEGINS: Final = 8
"""How often a browser may go on to the authorization server in one attempt."""
MAX_WRONG_CODES: Final = 5
"""Wrong codes after which an attempt has failed."""
CALLBACK_PATH: Final = "/oauth/callback"
_ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ23456789"
"""Letters and digits of codes: none that are confused, and no vowels."""
_CODE_LENGTH: Final = 8


class _Running:
    """The objects of an attempt that has not ended."""

    def __init__(self, attempt: LoginAttempt, http: HttpClient, lapse: asyncio.TimerHandle) -> None:
        self.attempt: Final = attempt
        self.http: Final = http
        self.lapse: Final = lapse
        self.lock: Final = asyncio.Lock()
        self.flow: CodeFlow | None = None
        """The last time that a browser went on to the authorization server."""
        self.begins = 0
        self.wrong_codes = 0
        self.unconfirmed: Login | None = None
        self.storing = False
        """Whether its login is being stored. Nothing but the end of that ends the attempt then."""

    def goes_on(self, flow: CodeFlow | None) -> None:
        """Count one more time that the browser goes on."""
        self.flow = flow
        self.begins += flow is not None

    def wrong(self) -> bool:
        """Count a wrong code; returns whether there were too many."""
        self.wrong_codes += 1
        return self.wrong_codes >= MAX_WRONG_CODES

    def stores(self) -> None:
        """Keep the attempt until its login is stored."""
        self.storing = True
        self.unconfirmed = None
        self.lapse.cancel()

    def holds(self, login: Login) -> None:
        """Keep a login until its code is there."""
        self.unconfirmed = login


class LoginAttempts:
    """All attempts that have not ended."""

    def __init__(self, limits: LimitsConfig, logins: Logins, base: Callable[[], str]) -> None:
        """`base`: the address of the gateway as browsers see it. There are no upstreams before `serve`."""
        self._upstreams: dict[str, UpstreamConfig] = {}
        self._limits = limits
        self._logins = logins
        self._base = base
        self._running: dict[str, _Running] = {}
        """By the id of the page."""
        self._ids: dict[tuple[str, str], str] = {}
        """Principal and upstream -> that id."""
        self._states: dict[str, str] = {}
        """`state` of a code flow -> that id. Each is used once."""
        self._numbers = itertools.count(1)
        self._registered: dict[str, Login] = {}
        """Upstream -> the last client that was registered there."""
        self._failures: dict[int, str] = {}
        """Number -> why the attempt failed, for the last ones."""
        self._background: set[asyncio.Task[Any]] = set()

    def __bool__(self) -> bool:
        """Whether any upstream has logins of principals."""
        return bool(self._upstreams)

    def serve(self, upstreams: Iterable[UpstreamConfig]) -> None:
        """Begin attempts at these upstreams from now on, in place of those before.

        Attempts at an upstream that is gone or was changed fail: their login would not fit it.
        """
        self._upstreams = {it.name: it for it in upstreams if it.of_users}
        for page, running in list(self._running.items()):
            of = running.attempt.upstream
            if self._upstreams.get(of.name) != of and not running.storing:
                self._end(page, "failed", "the configuration of the upstream was changed meanwhile")

    def of(self, principal: Principal, upstream: str) -> LoginAttempt:
        """The attempt of a verified principal at an upstream; begins one if there is none.

        Raises `RpcError`: `OVERLOADED` if there are too many, `UPSTREAM_UNAVAILABLE` if a reload removed the upstream.
        """
        key = (principal.id, upstream)
        known = self._ids.get(key)
        if known is not None:
            return self._running[known].attempt
        if len(self._running) >= MAX_ATTEMPTS:
            raise overloaded("too many people are logging in at present")
        config = self._upstreams.get(upstream)
        if config is None:
            raise RpcError.of_gateway(UPSTREAM_UNAVAILABLE, f"upstream {upstream} takes no logins of users any more")
        page = secrets.token_urlsafe(32)
        attempt = LoginAttempt(principal, config, f"{self._base()}{LOGIN_PAGES}{page}", next(self._numbers))
        lapse = asyncio.get_running_loop().call_later(LIFE, self._lapsed, page)
        http = HttpClient(config.model_copy(update={"auth": None}), self._limits)
        self._running[page] = _Running(attempt, http, lapse)
        self._ids[key] = page
        return attempt

    def failure(self, number: int) -> str:
        """Why the attempt with that number failed; empty if it did not, or too long ago."""
        return self._failures.get(number, "")

    def at(self, page: str) -> LoginAttempt | None:
        """The attempt whose page has this id, if a browser may go on from there."""
        running = self._running.get(page)
        return running.attempt if running is not None and running.attempt.step == "open" else None

    def with_state(self, state: str) -> LoginAttempt | None:
        """The attempt that an answer of an authorization server belongs to."""
        return self.at(self._states.get(state, ""))

    async def begin(self, page: str) -> URL:
        """The address of the authorization server for the browser. Raises `Refused`, and `NotOurs` for an old page.

        The attempt fails if the authorization server cannot be used.
        """
        running = self._running.get(page)
        if running is None or self.at(page) is None:
            raise NotOurs("there is no such attempt")
        async with running.lock:
            if self.at(page) is None:
                raise NotOurs("there is no such attempt")
            attempt = running.attempt
            try:
                if running.begins >= MAX_BEGINS:
                    raise Refused(f"it was tried {MAX_BEGINS} times")
                await self._drop_flow(running)
                async with asyncio.timeout(BEGIN):
                    return await self._begun(page, running)
            except (DeliveryError, Refused, TimeoutError) as failure:
                reason = str(failure) or f"its authorization server was not found within {BEGIN:g} s"
                self._end(page, "failed", reason)
                raise Refused(f"upstream {attempt.upstream.name}: {reason}") from None

    async def _begun(self, page: str, running: _Running) -> URL:
        attempt, http = running.attempt, running.http
        challenge = await challenge_of(http, is_sse=attempt.upstream.transport == "sse")
        known = self._logins.at(attempt.upstream.name)
        last = known.pop(attempt.principal.id, None)
        name = attempt.upstream.name
        others = [*filter(None, [self._registered.get(name)]), *known.values()]
        flow = CodeFlow(http.url, attempt.auth, http.access, last, others)
        try:
            address = await flow.begin(challenge, f"{self._base()}{CALLBACK_PATH}")
        except BaseException:
            await flow.close()
            raise
        if page not in self._running:  # it lapsed meanwhile
            await flow.close()
            raise Refused("it took too long")
        if flow.registration is not None:
            self._registered[name] = flow.registration
        running.goes_on(flow)
        self._states[flow.state] = page
        return address

    async def finish(self, query: Mapping[str, Sequence[str]], *, proven: bool) -> LoginAttempt:
        """Take the answer with which a browser comes back.

        `proven`: whether the browser is known to be that of the attempt's principal. Otherwise the attempt is
        unconfirmed afterwards. Raises `NotOurs` for an answer to ignore, and `Refused` if the login failed.
        """
        given = query.get("state", ())
        page = self._states.pop(given[0], None) if len(given) == 1 else None
        running = None if page is None else self._running.get(page)
        if page is None or running is None or running.flow is None:
            raise NotOurs("there is no such attempt")
        attempt = running.attempt
        async with running.lock:
            if self.at(page) is None:
                raise NotOurs("there is no such attempt")
            try:
                async with asyncio.timeout(FINISH):
                    login = await running.flow.finish(query)
            except (Refused, TimeoutError) as failure:
                self._registered.pop(attempt.upstream.name, None)  # the server may not know it any more
                reason = str(failure) or f"its authorization server did not answer within {FINISH:g} s"
                self._end(page, "failed", reason)
                raise Refused(f"upstream {attempt.upstream.name}: {reason}") from None
            if self._running.get(page) is not running:
                self._spawn(self._revoke(attempt, running.http, login))
                raise Refused(f"upstream {attempt.upstream.name}: it took too long")
            if proven:
                running.stores()
                await asyncio.shield(self._spawn(self._store(page, running, login)))
            else:
                running.holds(login)
                code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
                attempt.move("unconfirmed", code=f"{code[:4]}-{code[4:]}")
        return attempt

    async def confirm(self, attempt: LoginAttempt, code: str) -> bool:
        """Store the login of an unconfirmed attempt if `code` is right. After too many wrong codes, it has failed.

        A cancelled caller does not stop that half-way.
        """
        return await asyncio.shield(self._spawn(self._confirm(attempt, code)))

    async def _confirm(self, attempt: LoginAttempt, code: str) -> bool:
        page = self._ids.get((attempt.principal.id, attempt.upstream.name))
        running = None if page is None else self._running[page]
        if page is None or running is None or running.attempt is not attempt:
            return False
        async with running.lock:
            login = running.unconfirmed
            if login is None or attempt.step != "unconfirmed":
                return attempt.step == "complete"
            if not hmac.compare_digest(_plain(code), _plain(attempt.code)):
                if running.wrong():
                    self._end(page, "failed", f"{MAX_WRONG_CODES} wrong codes were given")
                return False
            running.stores()
            await self._store(page, running, login)
            return True

    async def close(self) -> None:
        """End all attempts."""
        for page in [page for page, running in self._running.items() if not running.storing]:
            self._end(page, "failed", "the gateway is stopping")
        deadline = asyncio.get_running_loop().time() + CLOSE
        while self._background and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._background, timeout=left)
        for task in self._background:
            task.cancel()

    async def _store(self, page: str, running: _Running, login: Login) -> None:
        who, name = running.attempt.principal.id, running.attempt.upstream.name
        try:
            await self._logins.change(who, name, lambda _: login)
        except (OSError, Unusable) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else problem
            logger.warning("the login of {} at upstream {} is lost after a restart: {}", who, name, reason)
        except BaseException:
            self._end(page, "failed", "the gateway could not keep the login")
            raise
        logger.bind(upstream=name, agent=who).info("{} has logged in at upstream {}", who, name)
        self._end(page, "complete")

    def _lapsed(self, page: str) -> None:
        self._end(page, "failed", f"it was not completed within {LIFE / 60:g} minutes")

    def _end(self, page: str, step: Step, reason: str = "") -> None:
        running = self._running.pop(page, None)
        if running is None:
            return
        attempt = running.attempt
        del self._ids[attempt.principal.id, attempt.upstream.name]
        running.lapse.cancel()
        if running.flow is not None:
            self._states.pop(running.flow.state, None)
        if step == "failed":
            self._failures[attempt.number] = reason
            if len(self._failures) > MAX_ATTEMPTS:
                del self._failures[next(iter(self._failures))]
            name, who = attempt.upstream.name, attempt.principal.id
            logger.bind(upstream=name, agent=who).info("{} did not log in at upstream {}: {}", who, name, reason)
        attempt.move(step, reason=reason)
        self._spawn(self._closed(running))

    async def _closed(self, running: _Running) -> None:
        """Close what an attempt used, and revoke a login that was never confirmed."""
        login = running.unconfirmed
        if login is not None:
            await self._revoke(running.attempt, running.http, login)
        if running.flow is not None:
            await running.flow.close()
        await running.http.close()

    async def _drop_flow(self, running: _Running) -> None:
        """End the last try of a browser, whose answer then counts no more."""
        flow = running.flow
        if flow is not None:
            self._states.pop(flow.state, None)
            running.goes_on(None)
            await flow.close()

    async def _revoke(self, attempt: LoginAttempt, http: HttpClient, login: Login) -> None:
        try:
            await revoke_login(http.url, attempt.auth, http.access, login)
        except (Refused, DeliveryError) as failure:
            logger.debug("a login at upstream {} was not revoked: {}", attempt.upstream.name, failure)

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


NO_ATTEMPTS: Final = LoginAttempts(LimitsConfig(), Logins(), lambda: "")
"""For a gateway whose upstreams have no logins of principals."""


def _plain(code: str) -> bytes:
    """A code as it is compared: upper case, without what people put between its parts."""
    return "".join(char for char in code.upper()[:64] if char in _ALPHABET).encode()
