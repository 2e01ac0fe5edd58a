"""Serves requests for their callers, who may have to be found out first."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from gateway_core.downstream.auth.authentication import Authentication
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.auth.memory import Verdict
from gateway_core.downstream.auth.pending import PendingAuthentication
from gateway_core.downstream.auth.presenting import Presenting
from gateway_core.downstream.auth.profiles import ProfileChoice
from gateway_core.downstream.http_errors import busy
from gateway_core.downstream.pending_response import PendingStream
from gateway_core.http1.application import Client, Deferred, Handler, PendingResponse
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response
from gateway_core.log.wording import count

CallerHandler: TypeAlias = Callable[[Caller, Client, RequestHead, bytes], Response | PendingResponse]
"""Serves a request of a caller. May raise `HttpError`."""


class CallerHandlers:
    """Makes the handlers of the HTTP server from those that need to know the caller."""

    def __init__(
        self, authentication: Authentication, presenting: Presenting, profiles: ProfileChoice, max_connections: int
    ) -> None:
        self._authentication = authentication
        self._presenting = presenting
        self._profiles = profiles
        self._max_connections = max_connections

    def use(
        self, authentication: Authentication, presenting: Presenting, profiles: ProfileChoice, max_connections: int
    ) -> None:
        """Find callers by another configuration from now on, also those that are being found out."""
        self._authentication, self._presenting, self._profiles = authentication, presenting, profiles
        self._max_connections = max_connections

    def handler(
        self, client: Client, head: RequestHead, serve: CallerHandler, profile: str | None
    ) -> tuple[Handler, float]:
        """The handler that serves a request for its caller, and the time (monotonic) until which it may be used again.

        While the plugins are asked, the request counts as `Authentication.counts_for` says. `profile`: the one that the
        address names, if any.

        Raises `HttpError`: 401 for credentials that are known to be refused, 503 if the connection has no place, and as
        `ProfileChoice.place`.
        """
        verdict = self._authentication.known(client, head)
        if verdict is None:
            head.route.count_for(self._authentication.counts_for(client, head))
            return partial(self._find_out, serve, profile), -math.inf
        head.route.count_for(verdict.caller_found.network)
        self._admit(client)
        verdict = self._placed(verdict, head, profile)
        if verdict.until == math.inf:
            return partial(serve, verdict.caller_found), verdict.until
        return partial(self._serve, serve, verdict, profile=profile), verdict.until

    def _find_out(
        self, serve: CallerHandler, profile: str | None, client: Client, head: RequestHead, body: bytes
    ) -> PendingResponse:
        def serve_known(verdict: Verdict) -> Response | PendingResponse:
            head.route.count_for(verdict.caller_found.network)
            self._admit(client)
            try:
                return self._serve(serve, self._placed(verdict, head, profile), client, head, body, profile=profile)
            except Deferred:
                return client.defer(head, body)

        return PendingAuthentication(self._ask(client, head), serve_known)

    async def _ask(self, client: Client, head: RequestHead, *, is_known: bool = False) -> Verdict:
        """`Authentication.ask`, repeated if another configuration has come into force meanwhile."""
        while True:
            authentication = self._authentication
            try:
                verdict = await authentication.ask(client, head, is_known=is_known)
            except HttpError:
                if authentication is self._authentication:
                    raise
            else:
                if authentication is self._authentication:
                    return verdict

    def _serve(
        self,
        serve: CallerHandler,
        verdict: Verdict,
        client: Client,
        head: RequestHead,
        body: bytes,
        *,
        profile: str | None,
    ) -> Response | PendingResponse:
        found = serve(verdict.caller_found, client, head, body)
        if isinstance(found, PendingStream):

            async def renew() -> float:
                again = self._placed(await self._ask(client, head, is_known=True), head, profile)
                before, now = verdict.caller_found, again.caller_found
                if not now.proves_same(before) or now.profile != before.profile:
                    raise HttpError(401, "these credentials prove other rights than before")
                return again.until

            found.hold_until(verdict.until, renew)
        return found

    def _placed(self, verdict: Verdict, head: RequestHead, profile: str | None) -> Verdict:
        """The verdict on a caller, with the caller's profile and what the request presents for upstreams."""
        before = verdict.caller_found
        # The profile comes first: callers in profiles are cached, and a cache would keep the secrets of each request.
        caller = self._presenting.by(self._profiles.place(before, profile), head)
        return verdict if caller is before else Verdict(caller, verdict.until)

    def _admit(self, client: Client) -> None:
        if not client.admit():
            limit = count(self._max_connections, "connection")
            raise busy(f"the limit of {limit} is reached", close=True)
