"""The composition root: builds everything from a `Config`, starts it in order and stops it in reverse.

Start order: plugins, the listener, upstreams in the background; stdio servers may already run, see
`upstream/process/early.py`. Stop order: report not ready, let calls in flight finish, accept no new connections, close
streams, stop upstreams and their child processes, exit the plugins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loguru import logger

from gateway_core.activity import Activity
from gateway_core.api import UpstreamState
from gateway_core.catalog.memory import Memory
from gateway_core.concealing import HeldSecrets
from gateway_core.config import Config, UpstreamConfig, is_local, passes_credentials_on, unprotected
from gateway_core.config.secrets import secrets_of
from gateway_core.control import Access, BrowserSessions, ControlPlane
from gateway_core.control.live import LiveCalls
from gateway_core.downstream.data_plane import DataPlane
from gateway_core.downstream.downstream import Downstream
from gateway_core.downstream.sessions.kept import KeptSessions
from gateway_core.downstream.sessions.live import SessionEvents
from gateway_core.downstream.sessions.store import InMemorySessions
from gateway_core.downstream.stdio import StdioServer
from gateway_core.errors import ConfigError
from gateway_core.generations.generation import Common, generation
from gateway_core.generations.handover import Handover, Listening
from gateway_core.generations.parts import Parts, packages
from gateway_core.generations.reloadable import Reloadable
from gateway_core.generations.reloads import Reloads
from gateway_core.generations.source import Source
from gateway_core.hooks import Chain
from gateway_core.hooks import loader as plugins
from gateway_core.http1.hosts import HostGuard, base_url
from gateway_core.limits.budget import MemoryBudget
from gateway_core.log.loop_lag import LoopLag
from gateway_core.log.wording import count
from gateway_core.supervised import cancel_all, failed, run_all
from gateway_core.upstream.auth import Logins
from gateway_core.upstream.concealing import control_secrets, held_secrets
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.lists.kept_lists import KeptLists
from gateway_core.upstream.pool import UpstreamPool
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.status import UpstreamEvents

if TYPE_CHECKING:
    from gateway_core.control import shapes
    from gateway_core.control.endpoint import AnyEndpoint

FIRST_DISCOVERY: Final = 30.0
LOGINS_PATIENCE: Final = 3.0
"""Seconds that the start waits for the file of the logins, whose keyring may ask a person first."""
ANSWER_GRACE: Final = 1.0
"""Seconds for writing the responses of calls that the gateway ended."""
CLOSE_GRACE: Final = 5.0
"""Seconds of `drain_timeout` that are reserved for ending streams and child processes."""
_SERVING: Final = (UpstreamState.HEALTHY, UpstreamState.IDLE)


class Gateway(Reloadable):
    """One gateway process. Call `start`, wait, then `drain`, which ends with `stop`."""

    def __init__(
        self,
        config: Config,
        *,
        admin_token: str = "",
        read_token: str = "",
        early: EarlyChildren | None = None,
        memory: Memory | None = None,
        held: HeldSecrets | None = None,
        logins: Path | None = None,
        lists: Path | None = None,
        sessions: Path | None = None,
        definitions: Path | None = None,
        source: Source | None = None,
        before: Handover | None = None,
    ) -> None:
        """Build everything, start nothing. Raises `PluginError` when a plugin cannot be loaded, and `ConfigError` if an
        upstream would get a credential that plugins read.

        `admin_token` and `read_token`: of the control plane; an empty one lets no request in.
        `memory`: the upstreams' names as an earlier process recorded them. `early`: child processes of upstreams that
        already run; the caller keeps the unused ones. `held`: the secrets to hide in everything that leaves the
        gateway; by default those of `config`. `logins`: the file of the logins at upstreams. `lists`: the folder of
        their last known lists. `sessions`: the file of agents' sessions between two runs. `definitions`: the file of
        changed definitions. `source`: where `reload` takes the configuration from, if it can. `before`: what an earlier
        process left.
        """
        proxy = config.proxy
        file = str(config.path) if config.path is not None else "configuration"
        chain = Chain(plugins.load_plugins(proxy, file))
        if reason := passes_credentials_on(proxy, chain.authenticators.headers):
            raise ConfigError([reason])
        held = held or held_secrets(proxy)
        tokens = control_secrets(admin_token, read_token)
        held.hold((*secrets_of(proxy), *chain.secrets, *tokens))
        self.clean: Final = held.clean
        activity = self.activity = Activity(
            lambda: self.live, lambda: self.input_required, held.clean_line, definitions
        )
        compare = activity.definitions.compare
        events = UpstreamEvents(self._lists_changed, self._private_lists_changed, compare, self._upstream_changed)
        limits = proxy.limits
        self.budget = MemoryBudget(limits.memory)
        self._logins_file = logins
        known = self._logins = Logins(logins if any(it.has_login for it in proxy.upstreams) else None, held)
        kept = KeptLists(lists, held.clean)
        self.pool = UpstreamPool(
            proxy, early, events, held, self.budget, logins=known, public_url=self._public_url, kept=kept
        )
        pool, attempts, serve = self.pool, self.pool.attempts, activity.serve
        self.health = HealthMonitor(pool.upstreams, chain, self._lists_changed)
        self._before = before or Handover()
        secret, wait = self._before.secret, self.health.wait_first_lists
        common = Common(self.budget, wait, held.clean, attempts, secret, activity.recorder, serve)
        first = generation(config, chain, self.pool.upstreams, common, memory=memory)
        store = InMemorySessions(limits.sessions, limits.sessions_per_principal, limits.session_idle)
        self.downstream = Downstream(
            config=proxy,
            budget=self.budget,
            pipeline=first.pipeline,
            catalog=first.catalog,
            store=store,
            kept=KeptSessions(sessions),
            events=SessionEvents(pool.end_session, pool.set_log_level, pool.roots_changed, activity.session_changed),
            authenticators=chain.authenticators,
            ready=lambda: self.ready,
            pages=first.input_required.pages,
            attempts=attempts,
        )
        self.downstream.when_lists_change(activity.lists_changed)
        first.input_required.pages.serve_at(self._public_url, lambda: is_local(self.config.proxy))
        first.input_required.of_plugins.counted_by(self.downstream.gate)
        self.sessions = self.downstream.sessions
        self.budget.when_full(self.sessions.end_idle)
        self._polling: list[asyncio.Task[None]] = []
        self._loop_lag = LoopLag(packages(chain), measures=chain.measures_loop_lag)
        self.live: Final = LiveCalls(lambda: [it.pipeline for it in self._reloads.live], first.input_required.parking)
        self.browsers: Final = BrowserSessions(self._before.browsers)
        guard = HostGuard(proxy.control.host, proxy.allowed_hosts)
        self.control = ControlPlane(self._endpoints, self, Access(admin_token, read_token, self.browsers), guard)
        others = (store, self.downstream, self.control, self._loop_lag)
        parts = Parts(common, self.pool, self.health, held, self._open_logins, *others, tokens)
        super().__init__(parts, Reloads(parts, first), source)
        self._server: DataPlane | None = None
        self._stdio: StdioServer | None = None
        self._stdio_ended = asyncio.Event()
        self._entered = self._serving = False
        self._control_sockets: list[int] = []
        self._stopping: asyncio.Task[None] | None = None
        self.draining = False

    @property
    def takes_changes(self) -> bool:
        return self._serving and not self.draining

    @property
    def listens(self) -> bool:
        return self._server is not None

    @property
    def ready(self) -> bool:
        """Whether agents are served: not draining, and an upstream is healthy or idle (or none is configured)."""
        if self.draining and not self.downstream.gate.deferring:
            return False
        upstreams = self.pool.upstreams
        return not upstreams or any(it.facts.state in _SERVING for it in upstreams)

    @property
    def address(self) -> str:
        """The URL that agents connect to, e.g. `https://127.0.0.1:3000`; empty without a listener."""
        if self._server is None:
            return ""
        return base_url(self.config.proxy.host, self._server.port, secure=self.config.proxy.tls is not None)

    def _public_url(self) -> str:
        """The address at which browsers reach the gateway; empty without a listener."""
        return (self.config.proxy.public_url or self.address) if self.address else ""

    async def _open_logins(self, upstreams: Iterable[UpstreamConfig]) -> None:
        if self._logins_file is not None and any(it.has_login for it in upstreams):
            await self._logins.use(self._logins_file, LOGINS_PATIENCE)

    # -- life ---------------------------------------------------------------------------------------------------

    def _endpoints(self) -> Sequence[AnyEndpoint]:
        """The endpoints of the control plane, with what they need loaded; see `ControlPlane.load`."""
        from gateway_core.control.table import table  # noqa: PLC0415

        _ = self.edits  # loaded now, because the first edit must not load them in the event loop
        return table(self)

    async def start_control(self, host: str, port: int) -> None:
        """Start the control plane, before or after `start`. Raises `OSError` when the address cannot be used."""
        await self.control.start(host, port, self._before.control.sockets(host, port))

    async def start(self, *, listen: bool = True) -> None:
        """Enter the plugins, bind the port, start connecting to the upstreams; does not wait for the connections.

        Raises `ConfigError` if others could use it unauthenticated, `PluginError`, or `OSError` when the port cannot be
        bound; everything is stopped first.
        """
        if listen and (reason := unprotected(self.config.proxy, authenticates=self.authenticates)):
            raise ConfigError([reason])
        await self.chain.__aenter__()
        self._entered = True
        try:
            if listen:
                await self.sessions.recall(self.config.proxy.limits.session_idle)
                server = self.downstream.http_server()
                host, port = self.config.proxy.host, self.config.proxy.port
                await server.start(host, port, self._before.agents.sockets(host, port))
                self._server = server
            for note in self.catalog.notes():
                logger.info("{}", note)
            await self._logins.load(LOGINS_PATIENCE)
            await self.pool.keep_lists_of(self.config.disabled)
            self.health.start()
            self._loop_lag.start()
            self.activity.start()
            self._polling = [
                asyncio.create_task(self.budget.keep_polling(), name="poll the memory"),
                asyncio.create_task(self._logins.keep_polling(), name="poll the logins"),
            ]
            self._serving = True
            if self._server is not None:
                await self._server.adopt(self._before.connections)
        except BaseException:
            await self.stop()
            raise

    async def wait_first_discovery(self, timeout: float = FIRST_DISCOVERY) -> None:
        """Wait until each upstream was reached or failed once, for at most `timeout` seconds."""
        await self.health.wait_first_attempts(timeout)
        await self.catalog.settled()

    async def serve_stdio(self, profile: str = "") -> None:
        """Serve one agent on stdin and stdout until it closes stdin, or `drain` ends it. `profile`: of the agent."""
        self._stdio = self.downstream.stdio_server(profile=profile)
        try:
            await self._stdio.run()
        finally:
            no_answers_come = self._server is None  # the only agent has left
            parking = self.input_required.parking
            await run_all("ending stdio", lambda: parking.close() if no_answers_come else None, self._stdio_ended.set)

    async def drain(self, *, restart: bool = False) -> None:
        """Accept no new calls, let calls in flight finish within `drain_timeout` less `CLOSE_GRACE`, then `stop`.

        The port stays open meanwhile: an agent may answer an input request on a new connection. `restart`: leave new
        calls, and the connections, to the next process; `handover` returns them. Parked calls end.
        """
        self.draining = True
        self.downstream.gate.close(defer=restart)
        self._reloads.refuse()
        what = "restarting" if restart else "stopping"
        logger.info("{}: {} in flight", what, count(self._reloads.in_flight, "call"))
        try:
            await self._drained()
        except Exception as error:  # noqa: BLE001 - the gateway still has to stop
            failed(what, error)
        await self.stop()

    async def _drained(self) -> None:
        """Wait for calls in flight, then accept no connections any more."""
        gate, parking = self.downstream.gate, self.input_required.parking
        clock = asyncio.get_running_loop().time
        deadline = clock() + max(self.config.proxy.drain_timeout - CLOSE_GRACE, 0.0)
        while (gate.in_flight or (parking and not gate.deferring)) and (left := deadline - clock()) > 0:
            await gate.wait_empty(left)
            if not gate.deferring:
                await parking.wait_empty(deadline - clock())
        if self._server is not None:
            self._server.stop_accepting()
        self._control_sockets = self.control.duplicates() if gate.deferring else []
        if unfinished := gate.in_flight + len(parking):
            logger.warning("ending what did not finish in time: {}", count(unfinished, "call"))
        if self._stdio is not None:
            self._stdio.stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_GRACE):
                    await self._stdio_ended.wait()

    def stop_instead(self) -> None:
        """Refuse new calls, and those that were deferred: the restart that is under way becomes a stop."""
        self.downstream.gate.close()
        if self._server is not None:
            self._server.http.serve_deferred()

    def handover(self) -> Handover | None:
        """What the next process gets, after a drain for a restart; None after any other end."""
        moved = None if self._server is None else self._server.moved
        if moved is None:
            return None
        proxy = self.config.proxy
        agents = Listening(proxy.host, proxy.port, moved.listening)
        control = Listening(proxy.control.host, proxy.control.port, self._control_sockets)
        secret, browsers = self._reloads.current.seal.secret, [one for one, _ in self.browsers.sessions()]
        return Handover(agents, control, moved.connections, secret, browsers)

    async def stop(self) -> None:
        """End streams, upstreams with their child processes, and plugins now. Safe to call twice, also concurrently."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="stop the gateway")
        # Shielded: a cancelled caller (a second signal ends the drain) must not interrupt it half-way.
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self.draining = True
        self._reloads.refuse()
        await self._reloads.undone()
        # Each step runs even if an earlier one failed: child processes must not outlive the gateway.
        await run_all(
            "stopping",
            self._loop_lag.stop,
            self.activity.stop,
            lambda: self._reloads.end_all("the gateway is stopping"),
            lambda: self.downstream.gate.wait_empty(ANSWER_GRACE),
            lambda: self.sessions.keep(self.config.proxy.limits.session_idle),
            lambda: None if self._server is None else self._server.close(0.0),
            lambda: cancel_all(self._polling),
            self.input_required.parking.close,
            self.health.stop,
            self.pool.close,
            self.activity.definitions.close,
            self.catalog.close,
            lambda: self._reloads.close() if self._entered else None,
            self.control.close,  # last, so that operators can see the stop
        )
        if self._serving:
            logger.info("stopped")

    # -- for people ---------------------------------------------------------------------------------------------

    def status(self) -> shapes.Status:
        """The data of `rad mcp proxy status`, without secrets and session ids."""
        return self._overview.status(self._server, address=self.address, ready=self.ready, draining=self.draining)

    def reconnect(self, name: str) -> bool:
        """Connect to an upstream again, in the background. Returns whether there is one with this name."""
        return self.health.begin_reconnect(name, max(self.config.proxy.drain_timeout - CLOSE_GRACE, 0.0))
