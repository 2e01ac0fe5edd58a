"""Puts another configuration in force while the gateway runs.

The new generation is built whole beside the present one: its plugins are entered, and its new upstreams connect. All
that can fail happens before the switch, and a failure undoes it. The switch is one turn of the event loop. Requests in
flight end in the generation that they began in; after the last one, what only that generation used is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger

from gateway_core.concealing import HeldSecrets, Secret
from gateway_core.config import Config, UpstreamConfig
from gateway_core.config.secrets import secrets_of
from gateway_core.config.server_tls import ServerCertificate
from gateway_core.control import ControlPlane
from gateway_core.downstream.downstream import Downstream, InForce
from gateway_core.downstream.sessions.store import InMemorySessions
from gateway_core.errors import ReloadRefused
from gateway_core.generations.changes import Change, applicable, compare
from gateway_core.generations.draft import Draft
from gateway_core.generations.generation import Common, Generation, chain_for, generation
from gateway_core.generations.reported_states import ReportedStates
from gateway_core.generations.source import Content, Prepared
from gateway_core.hooks import Chain, LoadedPlugin
from gateway_core.hooks import loader as plugins
from gateway_core.http1.hosts import HostGuard
from gateway_core.internal_errors import where
from gateway_core.log.loop_lag import LoopLag
from gateway_core.log.wording import count
from gateway_core.mcp.names import LISTS
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.lists.fetched_lists import CAPABILITY, LIST_METHODS
from gateway_core.upstream.pool import UpstreamPool
from gateway_core.upstream.upstream import Upstream

FIRST_CONTACT: Final = 10.0
"""Seconds that a reload waits for new and changed upstreams to connect, before it puts them in force."""
RETIRE_INTERVAL: Final = 0.1
"""Seconds between two looks whether an earlier generation serves requests."""
_KINDS: Final = {LIST_METHODS[kind]: CAPABILITY[kind] for kind in LIST_METHODS}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a reload, or what one would do."""

    generation: int
    """The number of the configuration in force."""
    changes: tuple[Change, ...]

    def as_json(self) -> dict[str, Any]:
        """Its members for the control plane."""
        return {"generation": self.generation, "changes": [change.as_json() for change in self.changes]}


@dataclass(frozen=True, slots=True)
class Parts:
    """What outlives a reload."""

    common: Common
    pool: UpstreamPool
    health: HealthMonitor
    held: HeldSecrets
    open_logins: Callable[[Iterable[UpstreamConfig]], Awaitable[None]]
    """Reads the file of the logins if one of these upstreams needs it and it was not read yet."""
    store: InMemorySessions
    downstream: Downstream
    control: ControlPlane
    loop_lag: LoopLag
    control_secrets: tuple[Secret, ...]
    """The tokens of the control plane."""


class Reloads:
    """The generations of one gateway: the current one, and earlier ones that still serve requests."""

    def __init__(self, parts: Parts, first: Generation) -> None:
        self._parts = parts
        self.current = first
        self.states: Final = ReportedStates(lambda: self.current)
        self._earlier_calls = 0
        """Calls of generations before the current one."""
        self._retiring: list[Generation] = []
        """Earlier generations that still serve requests."""
        self._tasks: set[asyncio.Task[None]] = set()
        """For each earlier generation, the task that closes it."""
        self._turn = asyncio.Lock()
        self.closed = False
        """Whether no other configuration is taken any more."""
        self._work: asyncio.Task[None] | None = None
        """The reload in progress."""

    @property
    def held(self) -> HeldSecrets:
        """The secrets of all generations."""
        return self._parts.held

    @property
    def calls(self) -> int:
        """Number of calls since the start."""
        return self._earlier_calls + self.current.pipeline.calls

    @property
    def in_flight(self) -> int:
        """Number of requests that any generation serves."""
        return sum(it.in_flight for it in self.live)

    async def settled(self) -> None:
        """Wait until no earlier generation serves a request, and what only those used is closed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def live(self) -> tuple[Generation, ...]:
        """The generations that serve requests, the current one last."""
        return (*self._retiring, self.current)

    async def compare(self, source: Content, *, listening: bool) -> Report:
        """What a reload would change. Raises `ConfigError` or `PluginError` if it would be refused for the file."""
        before = self.current
        config = await self._read(source)
        changes, config = compare(before.config, config), applicable(before.config, config)
        chain_for(before, config, listening=listening)
        return Report(before.number, changes)

    async def reload(self, source: Content, *, listening: bool, draft: Callable[[], Draft] | None = None) -> Report:
        """Put the configuration of `source` in force. Concurrent calls follow each other.

        `listening`: whether agents connect over the network. `draft`: writes what takes the place of the file right
        before the switch; may block. Raises `ConfigError` or `PluginError` with all problems, and `ReloadRefused` while
        the gateway stops, and as `draft`; the present configuration and the file then stay as they were.
        """
        async with self._turn:
            if self.closed:
                raise _stopping()
            before = self.current
            config = await self._read(source)
            if self.closed:  # the read is in a thread, which `refuse` cannot cancel
                raise _stopping()
            changes, config = compare(before.config, config), applicable(before.config, config)
            if all(change.restart for change in changes):
                if draft is not None:
                    await (await asyncio.to_thread(draft)).save()
                return Report(before.number, changes)
            secrets = _secrets(self.live)
            self._hide((*secrets, *secrets_of(config.proxy)))
            work = asyncio.get_running_loop().create_task(
                self._apply(before, config, source, draft, listening=listening), name="reload"
            )
            self._work = work
            try:
                await work
            except BaseException as error:
                self._hide(secrets)
                if isinstance(error, asyncio.CancelledError) and self.closed:
                    raise _stopping() from None
                raise
            finally:
                self._work = None
            return Report(self.current.number, changes)

    async def _read(self, source: Content) -> Config:
        config = await asyncio.to_thread(source.read)
        await asyncio.to_thread(plugins.preload, config.proxy.plugins)  # imports would block the loop
        return config

    def _hide(self, secrets: Iterable[Secret]) -> None:
        self._parts.held.hold((*secrets, *self._parts.control_secrets))

    async def _apply(
        self,
        before: Generation,
        config: Config,
        source: Content,
        draft: Callable[[], Draft] | None,
        *,
        listening: bool,
    ) -> None:
        """Build the next generation and put it in force."""
        proxy = config.proxy
        chain = chain_for(before, config, listening=listening)
        self._hide((*_secrets(self.live), *secrets_of(proxy), *chain.secrets))
        certificate = None
        if proxy.tls is not None and proxy.tls != before.config.proxy.tls:
            certificate = ServerCertificate(proxy.tls)
        prepared = await asyncio.to_thread(source.prepare, config)
        entered, fresh = False, tuple[Upstream, ...]()
        try:
            await chain.enter(before.chain.plugins)
            entered = True
            await self._parts.pool.prepare(proxy)
            upstreams = self._parts.pool.for_config(proxy)
            fresh = tuple(it for it in upstreams if it not in before.upstreams)
            await self._connect(fresh)
            after = generation(config, chain, upstreams, self._parts.common, before=before)
            await after.catalog.settled()
            if draft is not None:
                await (await asyncio.to_thread(draft)).save()
        except BaseException:
            prepared.discard()
            await self._parts.health.forget(fresh)
            await asyncio.gather(*(upstream.close() for upstream in fresh), return_exceptions=True)
            if entered:
                await chain.leave(before.chain.plugins)
            raise
        self._switch(before, after, certificate, prepared)

    async def _connect(self, fresh: tuple[Upstream, ...]) -> None:
        """Connect to new upstreams. One that cannot be reached in time is no reason against the configuration."""
        if fresh:
            await self._parts.open_logins(upstream.config for upstream in fresh)
            self._parts.health.watch(fresh)
            await self._parts.health.wait_attempts(fresh, FIRST_CONTACT)

    def _switch(
        self, before: Generation, after: Generation, certificate: ServerCertificate | None, prepared: Prepared
    ) -> None:
        """Put `after` in force, in one turn of the loop."""
        parts, proxy = self._parts, after.config.proxy
        limits = proxy.limits
        gone = frozenset(before.upstreams).difference(after.upstreams)
        parts.pool.use(after.upstreams, proxy)
        parts.health.use(after.upstreams, after.chain)
        parts.common.budget.limit_to(limits.memory)
        parts.store.limit_to(limits.sessions, limits.sessions_per_principal, limits.session_idle)
        after.input_required.parking.limit_to(limits.parked_calls, limits.parked_per_principal, proxy.question_timeout)
        after.input_required.pages.limit_to(limits.parked_calls)
        after.input_required.of_plugins.counted_by(parts.downstream.gate)
        parts.control.allow(HostGuard(proxy.control.host, proxy.allowed_hosts))
        self._earlier_calls += before.pipeline.calls
        self.current = after
        self.states.switched()
        self._retiring.append(before)
        self._name_plugins()
        task = asyncio.get_running_loop().create_task(self._retire(before), name=f"retire generation {before.number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        parts.downstream.use(
            proxy,
            InForce(
                after.pipeline,
                after.catalog,
                after.chain.authenticators,
                certificate,
                gone,
                _shown_differently(before, after),
            ),
        )
        prepared.apply()
        after.catalog.rebuild()  # what upstreams said since the last look at them

    async def _retire(self, old: Generation) -> None:
        """Wait until a generation serves no request, and close what only that one used."""
        parts = self._parts
        await _logged(old.catalog.leave())
        # An event would cost every call something.
        while self._in_use(old):  # noqa: ASYNC110
            await asyncio.sleep(RETIRE_INTERVAL)
        gone = self._only_in(old)
        others = [plugin for it in self.live if it is not old for plugin in it.chain.plugins]
        self._retiring.remove(old)
        self._name_plugins()
        parts.downstream.retire(old.pipeline)
        await _logged(old.chain.leave(others))
        await _logged(parts.health.forget(gone))
        await _logged(parts.pool.close_replaced(gone))
        await _logged(parts.pool.keep_lists_of(self.current.config.disabled))
        if not self._turn.locked():
            self._hide(_secrets(self.live))
        if gone:
            logger.info("closed after a reload: {}", count(len(gone), "upstream"))

    def _name_plugins(self) -> None:
        """Let reports of a blocked event loop name the plugins of all generations that serve requests."""
        self._parts.loop_lag.use({package: name for it in self.live for package, name in packages(it.chain).items()})

    def _in_use(self, old: Generation) -> bool:
        return bool(old.in_flight or old.chain.asked or any(it.facts.in_flight for it in self._only_in(old)))

    def _only_in(self, old: Generation) -> tuple[Upstream, ...]:
        """The upstreams that no other generation has."""
        others = {upstream for it in self.live if it is not old for upstream in it.upstreams}
        return tuple(it for it in old.upstreams if it not in others)

    def end_all(self, reason: str) -> None:
        """End every request in flight; see `Pipeline.end_all`."""
        for it in self.live:
            it.pipeline.end_all(reason)

    async def refuse(self) -> None:
        """Take no other configuration any more: the gateway is stopping. A reload in progress is undone."""
        self.closed = True
        if self._work is not None:
            self._work.cancel()
        async with self._turn:
            pass

    async def close(self) -> None:
        """Exit the plugins of all generations. Nothing serves a request any more."""
        live = self.live
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for at, it in enumerate(live):
            others: list[LoadedPlugin] = [plugin for later in live[at + 1 :] for plugin in later.chain.plugins]
            await it.chain.leave(others)
            if it is not self.current:
                await it.catalog.leave()


async def _logged(step: Awaitable[None]) -> None:
    """Run one step after a reload. A failure is logged, since no caller waits for it, and the next steps still run."""
    try:
        await step
    except Exception as error:  # noqa: BLE001
        logger.error("{} after a reload\n{}", type(error).__name__, where(error))


def _stopping() -> ReloadRefused:
    return ReloadRefused("the gateway is stopping, and takes no other configuration")


def packages(chain: Chain) -> dict[str, str]:
    """The top-level package of each plugin -> its name."""
    return {type(it.instance).__module__.partition(".")[0]: it.name for it in chain.plugins}


def _secrets(generations: Iterable[Generation]) -> tuple[Secret, ...]:
    return tuple(dict.fromkeys(secret for it in generations for secret in it.secrets))


def _shown_differently(before: Generation, after: Generation) -> frozenset[str]:
    """The kinds of lists that other plugins, plugins in another order, or other profiles may show to agents now."""
    if before.config.proxy.profiles != after.config.proxy.profiles:
        return frozenset(_KINDS.values())
    found: set[str] = set()
    for method in LISTS:
        mine, its = (
            [(id(it.instance), it.on_error) for it in of.chain.plugins if method in it.methods]
            for of in (before, after)
        )
        if mine != its:
            found.add(_KINDS[method])
    return frozenset(found)
