"""Builds the agents' side from its parts. Each part gets what it uses and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from gateway_core.catalog import Catalog
from gateway_core.catalog.catalog import Listener
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.config import ProxyConfig
from gateway_core.config.server_tls import ServerCertificate
from gateway_core.downstream.app import App
from gateway_core.downstream.auth.authentication import Authentication
from gateway_core.downstream.auth.forwarded import TrustedProxies
from gateway_core.downstream.auth.presenting import Presenting
from gateway_core.downstream.auth.profiles import default_profile
from gateway_core.downstream.browsers.login_pages import LoginPages
from gateway_core.downstream.browsers.question_page import QuestionPageHttp
from gateway_core.downstream.calls.call_shares import CallShares
from gateway_core.downstream.calls.calls import Calls
from gateway_core.downstream.calls.gate import Gate
from gateway_core.downstream.data_plane import DataPlane
from gateway_core.downstream.duplex import ModernRequests
from gateway_core.downstream.legacy import Legacy
from gateway_core.downstream.legacy_http import LegacyHttp
from gateway_core.downstream.modern import ModernHttp
from gateway_core.downstream.sessions.kept import KeptSessions
from gateway_core.downstream.sessions.live import SessionEvents
from gateway_core.downstream.sessions.sessions import Sessions
from gateway_core.downstream.sessions.store import SessionStore
from gateway_core.downstream.sse import SseHttp
from gateway_core.downstream.stdio import StdioServer
from gateway_core.downstream.subscriptions.subscription import Subscriptions
from gateway_core.downstream.trials import Trials
from gateway_core.hooks.authenticators import Authenticators
from gateway_core.inline.deadlines import Deadline
from gateway_core.limits.budget import MemoryBudget
from gateway_core.pipeline.input_required.question_pages import QuestionPages
from gateway_core.pipeline.pipeline import Pipeline
from gateway_core.upstream.upstream import Upstream
from gateway_core.upstream.user_logins.attempts import NO_ATTEMPTS, LoginAttempts


class InForce(msgspec.Struct, frozen=True):
    """What a reload puts in force for agents, besides the configuration."""

    pipeline: Pipeline
    catalog: Catalog
    authenticators: Authenticators
    certificate: ServerCertificate | None
    """Another certificate for agents; None to keep the present one."""
    gone: frozenset[Upstream]
    """Upstreams that were replaced or removed."""
    kinds: frozenset[str]
    """Lists that plugins may show differently now."""


class Downstream:
    """The agents' side of one gateway. All transports share the gate, the sessions and the subscriptions."""

    def __init__(
        self,
        config: ProxyConfig,
        *,
        budget: MemoryBudget,
        pipeline: Pipeline,
        catalog: Catalog,
        store: SessionStore,
        events: SessionEvents,
        authenticators: Authenticators,
        ready: Callable[[], bool],
        pages: QuestionPages | None = None,
        attempts: LoginAttempts = NO_ATTEMPTS,
        kept: KeptSessions | None = None,
    ) -> None:
        """`store` keeps the records of legacy sessions; `kept` has those of an earlier process.

        `ready`: whether `/readyz` answers 200. `pages`: those on which people answer questions. `attempts`: the logins
        of principals in progress.
        """
        self._config = config
        self._budget = budget
        current = self._catalog = CurrentCatalog(catalog)
        self._authenticators = authenticators
        self._attempts = attempts
        self._ready = ready
        self._pages = pages
        in_flight = config.limits.in_flight

        def running() -> Collection[Deadline]:
            return self._calls.running()

        self.gate = Gate(in_flight, budget, CallShares(in_flight, running))
        self._calls = Calls(pipeline, self.gate)
        check_open, call = self.gate.check_open, self._calls.call
        timeout = config.question_timeout
        self.sessions = Sessions(store, current, events, check_open, timeout, call=call, budget=budget, kept=kept)
        self.subscriptions = Subscriptions(current, self._calls.call, self.gate.check_open)
        self.trials = Trials(current, self._calls)
        """The requests of operators."""
        self._legacy = Legacy(current, self._calls, self.sessions)
        self._authentication = self._authentication_for(config, authenticators, pipeline.generation)
        self._app: App | None = None
        self._server: DataPlane | None = None
        self._stdio: StdioServer | None = None

    def http_server(self) -> DataPlane:
        """The HTTP server for agents, not started yet."""
        sessions, subscriptions = self.sessions, self.subscriptions
        config, authenticators = self._config, self._authenticators
        presenting = Presenting.of(config)
        self._app = App(
            config,
            self._ready,
            self.gate,
            authentication=self._authentication,
            presenting=presenting,
            credential_headers=_headers(authenticators, presenting),
            documents=authenticators.documents,
            modern=ModernHttp(self._catalog, self._calls, subscriptions, self._budget),
            legacy=LegacyHttp(self._legacy, sessions, self.gate, self._budget),
            sse=SseHttp(self._legacy, sessions),
            questions=None if self._pages is None else QuestionPageHttp(self._pages, self._authentication),
            logins=LoginPages(config, self._attempts, self._authentication),
        )
        self._server = DataPlane(
            self._app,
            config,
            catalog=self._catalog,
            gate=self.gate,
            sessions=sessions,
            subscriptions=subscriptions,
        )
        return self._server

    @staticmethod
    def _authentication_for(config: ProxyConfig, authenticators: Authenticators, generation: int) -> Authentication:
        proxies = TrustedProxies(config.trusted_proxies, authenticators.issuers)
        return Authentication(authenticators, proxies, anonymous=config.anonymous, generation=generation)

    def when_lists_change(self, callback: Listener) -> None:
        """Call `callback` when what agents see changes, in whatever configuration is in force."""
        self._catalog.listen(callback)

    def use(self, config: ProxyConfig, now: InForce) -> None:
        """Serve agents by another configuration from now on. Requests in flight end by the one that they began in."""
        self._calls.use(now.pipeline)
        self.gate.limit_to(config.limits.in_flight)
        self.sessions.use(config.question_timeout)
        before, self._config = self._config, config
        by_proxies = before.trusted_proxies == config.trusted_proxies and before.anonymous == config.anonymous
        known = by_proxies and self._authenticators.asks_as(now.authenticators)
        self._authenticators = now.authenticators
        if known:
            self._authentication.use(now.authenticators, now.pipeline.generation)
        else:
            self._authentication = self._authentication_for(config, now.authenticators, now.pipeline.generation)
        if self._app is not None and self._server is not None:
            presenting = Presenting.of(config)
            self._app.use(
                config,
                authentication=self._authentication,
                presenting=presenting,
                credential_headers=_headers(now.authenticators, presenting),
                documents=now.authenticators.documents,
            )
            doubts = not known or before.profiles != config.profiles
            self._server.use(config, now.certificate, doubts=doubts)
        if self._stdio is not None:
            self._stdio.use(config)
        self.sessions.reconsider(now.gone)
        self.subscriptions.reconsider(now.gone)
        self._catalog.replace(now.catalog, now.kinds)

    def retire(self, pipeline: Pipeline) -> None:
        """Forget an earlier pipeline, which serves no request any more."""
        self._calls.retire(pipeline)

    def stdio_server(self, stdin: int | None = None, stdout: int | None = None, *, profile: str = "") -> StdioServer:
        """The server of one agent on stdin and stdout, or on other descriptors; not started yet.

        `profile`: of the agent; without it, the default profile if there is one.
        """
        profile = profile or default_profile(self._config.profiles)
        modern = ModernRequests(self._catalog, self._calls, self.subscriptions)
        self._stdio = StdioServer(
            self._config,
            (stdin, stdout),
            catalog=self._catalog,
            sessions=self.sessions,
            legacy=self._legacy,
            modern=modern,
            profile=profile,
        )
        return self._stdio


def _headers(authenticators: Authenticators, presenting: Presenting) -> tuple[str, ...]:
    """The headers that plugins or upstreams get."""
    return tuple(dict.fromkeys((*authenticators.headers, *presenting.headers)))
