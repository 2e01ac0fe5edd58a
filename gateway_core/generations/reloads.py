"""Puts another configuration in force while the gateway runs.

The new generation is built whole beside the present one: its plugins are entered, and its new upstreams connect. All
that can be refused happens before the switch; a failure undoes it. The switch is one turn of the event loop. A bug
in one of its steps cannot be undone: the other steps run, and the reload raises `PartlyApplied`. Requests in flight end
in the generation that they began in; after the last one, what only that generation used is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import msgspec
from loguru import logger

from gateway_core.background import Background
from gateway_core.concealing import HeldSecrets, Secret
from gateway_core.config import Config
from gateway_core.config.secrets import secrets_of
from gateway_core.config.server_tls import ServerCertificate
from gateway_core.errors import PartlyApplied, ReloadRefused, TryLater
from gateway_core.generations.changes import Change, applicable, compare
from gateway_core.generations.draft import Draft
from gateway_core.generations.generation import Generation, chain_for, generation
from gateway_core.generations.parts import Parts, packages
from gateway_core.generations.reported_states import ReportedStates
from gateway_core.generations.source import Content, Prepared
from gateway_core.generations.turns import Turns, in_seconds
from gateway_core.hooks import LoadedPlugin
from gateway_core.hooks import loader as plugins
from gateway_core.log.wording import count
from gateway_core.supervised import Step, run_all, run_now
from gateway_core.upstream.pool import close_all
from gateway_core.upstream.upstream import Upstream

FIRST_CONTACT: Final = 10.0
"""Seconds that a reload waits for new and changed upstreams to connect, before it puts them in force."""
CHANGE_WAIT: Final = 30.0
"""Seconds that a reload or an edit waits for others. A usual one takes a few; see `FIRST_CONTACT`."""
COMPARE_WAIT: Final = 5.0
"""Seconds that a comparison waits for others."""
UNDO_TIME: Final = 5.0
"""Seconds after the begin of a stop until which it waits for a reload in progress to be undone."""
RETIRE_INTERVAL: Final = 0.1
"""Seconds between two looks whether an earlier generation serves requests."""


class Report(msgspec.Struct, frozen=True):
    """The result of a reload, or what one would do."""

    generation: int
    """The number of the configuration in force."""
    changes: tuple[Change, ...]

    def as_json(self) -> dict[str, Any]:
        """Its members for the control plane."""
        return {"generation": self.generation, "changes": [change.as_json() for change in self.changes]}


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
        self._retirement = Background("closing what only an earlier configuration used")
        """For each earlier generation, the task that closes it."""
        self._changing = Turns()
        self._comparing = Turns()
        self.closed = False
        """Whether no other configuration is taken any more."""
        self._undo_until = 0.0
        """The time of the loop until which `undone` waits."""
        self._work: asyncio.Task[bool] | None = None
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
        await self._retirement.wait()

    @property
    def live(self) -> tuple[Generation, ...]:
        """The generations that serve requests, the current one last."""
        return (*self._retiring, self.current)

    async def compare(self, source: Content, *, listening: bool) -> Report:
        """What a reload would change. Raises `ConfigError` or `PluginError` if it would be refused for the file.

        Plugins are built for it, so comparisons follow each other. Raises `TryLater` after `COMPARE_WAIT` seconds.
        """
        async with self._comparing.turn("a check of another configuration", in_seconds(COMPARE_WAIT)):
            return await self._compare(source, listening=listening)

    async def _compare(self, source: Content, *, listening: bool) -> Report:
        before = self.current
        config = await self._read(source)
        changes, config = compare(before.config, config), applicable(before.config, config)
        chain_for(before, config, listening=listening)
        return Report(before.number, changes)

    async def reload(
        self,
        source: Content,
        *,
        listening: bool,
        draft: Callable[[], Draft] | None = None,
        until: float,
    ) -> Report:
        """Put the configuration of `source` in force. Concurrent calls follow each other.

        `listening`: whether agents connect over the network. `draft`: writes what takes the place of the file right
        before the switch; may block. `until`: the time of the loop until which it waits for others. Raises `TryLater`
        then, `ConfigError` or `PluginError` with all problems, and `ReloadRefused` while the gateway stops, and as
        `draft`; the present configuration and the file then stay as they were. Raises `PartlyApplied` if this
        configuration is in force, but a step of the switch failed.
        """
        what = "a reload of the configuration" if draft is None else "an edit of the configuration"
        async with self._changing.turn(what, until):
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
                whole = await work
            except BaseException as error:
                self._hide(_secrets(self.live))
                if isinstance(error, asyncio.CancelledError) and self.closed:
                    raise _stopping() from None
                raise
            finally:
                self._work = None
            if not whole:
                raise PartlyApplied(self.current.number, len(changes))
            return Report(self.current.number, changes)

    async def change_ended(self) -> None:
        """Wait until the reload or edit in progress, if there is one, has ended."""
        await self._changing.ended()

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
    ) -> bool:
        """Build the next generation and put it in force. Returns whether each step of the switch succeeded."""
        proxy, pool = config.proxy, self._parts.pool
        chain = chain_for(before, config, listening=listening)
        self._hide((*_secrets(self.live), *secrets_of(proxy), *chain.secrets))
        certificate = None
        if proxy.tls is not None and proxy.tls != before.config.proxy.tls:
            certificate = ServerCertificate(proxy.tls)
        preparing = asyncio.ensure_future(asyncio.to_thread(source.prepare, config))
        undo: list[Step] = [partial(_discard, preparing)]
        """What to do if this configuration does not come into force, last step first."""
        try:
            prepared = await asyncio.shield(preparing)
            await chain.enter(before.chain.plugins)
            undo.append(partial(chain.leave, before.chain.plugins))
            await pool.prepare(proxy)
            upstreams = pool.for_config(proxy)
            fresh = tuple(it for it in upstreams if it not in before.upstreams)
            undo.append(partial(close_all, fresh))
            undo.append(partial(self._parts.health.forget, fresh))
            await self._connect(fresh)
            after = generation(config, chain, upstreams, self._parts.common, before=before)
            undo.append(after.catalog.leave)
            await after.catalog.settled()
            if self.closed:  # a plugin may have suppressed the cancellation by `refuse`
                raise _stopping()
            if draft is not None:
                await (await asyncio.to_thread(draft)).save()
        except BaseException:
            await run_all("undoing a reload", *reversed(undo))
            raise
        return self._switch(before, after, certificate, prepared)

    async def _connect(self, fresh: tuple[Upstream, ...]) -> None:
        """Connect to new upstreams. One that cannot be reached in time is no reason against the configuration."""
        if fresh:
            await self._parts.open_logins(upstream.config for upstream in fresh)
            self._parts.health.watch(fresh)
            await self._parts.health.wait_attempts(fresh, FIRST_CONTACT)

    def _switch(
        self, before: Generation, after: Generation, certificate: ServerCertificate | None, prepared: Prepared
    ) -> bool:
        """Put `after` in force, in one turn of the loop. Returns whether each step succeeded; a failure is logged."""
        self._earlier_calls += before.pipeline.calls
        self.current = after
        self._retiring.append(before)
        self._retirement.run(partial(self._retire, before))
        return run_now(
            f"generation {after.number} was put in force",
            *self._parts.steps_to(after, before, certificate),
            self.states.switched,
            self._adapt_loop_lag,
            prepared.apply,
            after.catalog.rebuild,  # what upstreams said since the last look at them
        )

    async def _retire(self, old: Generation) -> None:
        """Wait until a generation serves no request, and close what only that one used."""
        parts = self._parts
        await run_all("replacing the catalog", old.catalog.leave)
        # An event would cost every call something.
        while self._in_use(old):  # noqa: ASYNC110
            await asyncio.sleep(RETIRE_INTERVAL)
        gone = self._only_in(old)
        others = [plugin for it in self.live if it is not old for plugin in it.chain.plugins]
        self._retiring.remove(old)
        self._adapt_loop_lag()
        parts.downstream.retire(old.pipeline)
        await run_all(
            "closing what only an earlier configuration used",
            partial(old.chain.leave, others),
            partial(parts.health.forget, gone),
            partial(parts.pool.close_replaced, gone),
            lambda: parts.pool.keep_lists_of(self.current.config.disabled),
        )
        if not self._changing.taken:
            self._hide(_secrets(self.live))
        if gone:
            logger.info("closed after a reload: {}", count(len(gone), "upstream"))

    def _adapt_loop_lag(self) -> None:
        """Let reports of a blocked event loop name the plugins of all generations that serve requests.

        Those of the current one decide whether its lags are measured.
        """
        named = {package: name for it in self.live for package, name in packages(it.chain).items()}
        self._parts.loop_lag.use(named, measures=self.current.chain.measures_loop_lag)

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

    def refuse(self) -> None:
        """Take no other configuration any more: the gateway is stopping. A reload in progress is undone."""
        if not self.closed:
            self.closed = True
            self._undo_until = asyncio.get_running_loop().time() + UNDO_TIME
            if self._work is not None:
                self._work.cancel()

    async def undone(self) -> None:
        """Wait until the reload in progress has ended, until at most `UNDO_TIME` seconds after `refuse`."""
        try:
            async with self._changing.turn("the stop", self._undo_until):
                pass
        except TryLater:
            logger.error("the reload in progress does not end; the gateway stops without waiting for it")

    async def close(self) -> None:
        """Exit the plugins of all generations. Nothing serves a request any more."""
        live = self.live
        await self._retirement.close(0.0)
        steps: list[Step] = []
        for at, it in enumerate(live):
            others: list[LoadedPlugin] = [plugin for later in live[at + 1 :] for plugin in later.chain.plugins]
            steps.append(partial(it.chain.leave, others))
            if it is not self.current:
                steps.append(it.catalog.leave)
        await run_all("leaving plugins", *steps)


async def _discard(preparing: asyncio.Future[Prepared]) -> None:
    await asyncio.wait({preparing})  # a thread is not cancelled
    if not preparing.cancelled() and preparing.exception() is None:
        preparing.result().discard()


def _stopping() -> ReloadRefused:
    return ReloadRefused("the gateway is stopping, and takes no other configuration")


def _secrets(generations: Iterable[Generation]) -> tuple[Secret, ...]:
    return tuple(dict.fromkeys(secret for it in generations for secret in it.secrets))
