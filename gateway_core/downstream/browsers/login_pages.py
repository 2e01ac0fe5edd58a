"""The pages of logins of principals: where a person goes on to the authorization server, and comes back.

They need no cookies. An address of the first kind leads nowhere but to its own login and is known to the agent alone;
one of the second kind carries a `state` that is used once. Requests whose credentials prove another person are refused.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

from gateway_core.api import Principal
from gateway_core.concealing import LOGIN_PAGES
from gateway_core.config import ProxyConfig
from gateway_core.config.exposure import is_local
from gateway_core.downstream.auth.authentication import Authentication
from gateway_core.downstream.browsers.html_page import FORM_HEADERS, HEADERS, message
from gateway_core.downstream.browsers.pending_pages import PendingPage, PendingPages
from gateway_core.downstream.http_errors import busy
from gateway_core.http1.application import Client, Handler
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response
from gateway_core.upstream.auth.code_flow import NotOurs
from gateway_core.upstream.auth.documents import Refused
from gateway_core.upstream.user_logins.attempt import LoginAttempt
from gateway_core.upstream.user_logins.attempts import CALLBACK_PATH, LoginAttempts

MAX_PARAMETERS: Final = 20
"""Parameters in the query of an answer."""
_AGAIN: Final = "Let your agent try again; it gets a new address."


class LoginPages:
    """Serves the pages of login attempts."""

    def __init__(self, config: ProxyConfig, attempts: LoginAttempts, authentication: Authentication) -> None:
        self._attempts = attempts
        self._pending = PendingPages("logging in")
        self.use(config, authentication)

    def use(self, config: ProxyConfig, authentication: Authentication) -> None:
        """Apply another configuration from now on."""
        self._authentication = authentication
        self._is_local = is_local(config)

    def handler(self, client: Client, head: RequestHead, path: str) -> Handler | None:
        """The handler of a request to a page; None for any other path. Raises `HttpError`."""
        if not self._attempts or (path != CALLBACK_PATH and not path.startswith(LOGIN_PAGES)):
            return None
        methods = ("GET",) if path == CALLBACK_PATH else ("GET", "POST")
        if head.method not in methods:
            allow = ", ".join((*methods, "OPTIONS"))
            raise HttpError(405, f"this address answers {allow}", headers={"Allow": allow})
        if not client.admit():
            raise busy("the limit of connections is reached", close=True)
        return self._callback if path == CALLBACK_PATH else self._start

    def _start(self, client: Client, head: RequestHead, body: bytes) -> PendingPage | Response:
        page = head.path.removeprefix(LOGIN_PAGES).rstrip("/")
        attempt = self._attempts.at(page)
        if attempt is None:
            return _page(404, "This address is not valid any more", _AGAIN)
        return self._pending.make(self._started(client, head, page, attempt))

    async def _started(self, client: Client, head: RequestHead, page: str, attempt: LoginAttempt) -> Response:
        """Say who wants to connect to what, or send the browser on to the authorization server."""
        caller = await self._authentication.proven(client, head)
        if _is_another(caller, attempt):
            return _another()
        if head.method == "GET":
            return _question(attempt)
        try:
            address = await self._attempts.begin(page)
        except NotOurs:
            return _page(404, "This address is not valid any more", _AGAIN)
        except Refused as failure:
            return _page(502, "The login failed", f"{failure}.", _AGAIN)
        return Response(status=303, headers={"Location": str(address), **HEADERS})

    def _callback(self, client: Client, head: RequestHead, body: bytes) -> PendingPage | Response:
        try:
            query = parse_qs(head.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            query = {}
        states = query.get("state", ())
        attempt = self._attempts.with_state(states[0]) if len(states) == 1 else None
        if attempt is None:
            return _not_valid()
        return self._pending.make(self._came_back(client, head, query, attempt))

    async def _came_back(
        self, client: Client, head: RequestHead, query: dict[str, list[str]], attempt: LoginAttempt
    ) -> Response:
        caller, name = await self._authentication.proven(client, head), attempt.upstream.name
        if _is_another(caller, attempt):
            return _another()
        try:
            await self._attempts.finish(query, proven=caller is not None or self._is_local)
        except NotOurs:
            return _not_valid()
        except Refused as failure:
            return _page(400, "The login failed", f"{failure}.", _AGAIN)
        if attempt.step == "unconfirmed":
            return _page(
                200,
                "One more step",
                f"Give this code to your agent, which waits for it. Then it can use {name} as you.",
                "Do not give it to another person, who would get your access.",
                code=attempt.code,
            )
        return _page(200, "You are logged in", f"Your agent can now use {name} as you. You can close this page.")


def _is_another(caller: Principal | None, attempt: LoginAttempt) -> bool:
    return caller is not None and caller.id != attempt.principal.id


def _question(attempt: LoginAttempt) -> Response:
    who, name = attempt.principal, attempt.upstream.name
    parts = urlsplit(attempt.upstream.url or "")
    text = message(
        f"Connect to {name}?",
        f"An agent of {who.subject} (identity confirmed by {who.issuer}) wants to use the server {name} at "
        f"{parts.scheme}://{parts.netloc} in your name. The gateway sends you there to log in, and keeps the access "
        "for this agent and others of the same identity.",
        "Close this page if you did not ask for this yourself, or if another person sent you here.",
        button="Log in",
    )
    return Response(text.encode(), headers=FORM_HEADERS)


def _another() -> Response:
    return _page(
        403, "This login belongs to another person", "The agent of that person asked for it. Nothing was done."
    )


def _not_valid() -> Response:
    return _page(400, "Not this login", "This answer does not belong to a login in progress. It was ignored.", _AGAIN)


def _page(status: int, title: str, *texts: str, code: str = "") -> Response:
    return Response(message(title, *texts, code=code).encode(), status, HEADERS)
