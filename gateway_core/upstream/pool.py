"""The upstreams of the configuration in force, in file order, and those that it has replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from loguru import logger

from gateway_core.concealing import HeldSecrets
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.limits.budget import MemoryBudget
from gateway_core.supervised import run_all
from gateway_core.upstream.auth import Logins
from gateway_core.upstream.auth.logins import GATEWAY
from gateway_core.upstream.lists.kept_lists import NOTHING_KEPT, KeptLists
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.status import NO_EVENTS, UpstreamEvents
from gateway_core.upstream.upstream import Upstream
from gateway_core.upstream.user_logins.attempts import LoginAttempts


class UpstreamPool:
    """Owns the upstreams and runs operations on all of them."""

    def __init__(
        self,
        config: ProxyConfig,
        early: EarlyChildren | None = None,
        events: UpstreamEvents = NO_EVENTS,
        held: HeldSecrets | None = None,
        budget: MemoryBudget | None = None,
        *,
        logins: Logins | None = None,
        public_url: Callable[[], str] = lambda: "",
        kept: KeptLists = NOTHING_KEPT,
    ) -> None:
        """`early`: child processes that were started already. `events`: callbacks for all upstreams.

        `held`: the secrets to hide in what servers send. `budget`: the memory budget that counts for all. `logins`: the
        logins at upstreams. `public_url`: the address at which browsers reach the gateway. `kept`: the last known lists
        of the upstreams; the pool closes it.
        """
        logins = logins or Logins(held=held)
        logins.when_changed(self._login_changed)
        self.attempts: Final = LoginAttempts(config.limits, logins, public_url)
        """The logins of principals in progress."""
        self.attempts.serve(config.upstreams)
        self._make = partial(Upstream, events=events, held=held, budget=budget, logins=logins, kept=kept)
        self._kept = kept
        self._config = config
        self.upstreams = tuple(
            self._make(upstream, config, order, early) for order, upstream in enumerate(config.upstreams)
        )
        self._drained: set[str] = set()
        """The names of upstreams that an operator keeps new calls from."""
        self._replaced: tuple[Upstream, ...] = ()
        """Upstreams of earlier configurations, which may still serve requests."""

    async def prepare(self, config: ProxyConfig) -> None:
        """Read what `for_config` needs."""
        present = {it.name: it.config for it in self.upstreams}
        await self._kept.read(it for it in config.upstreams if present.get(it.name) != it)

    def for_config(self, config: ProxyConfig) -> tuple[Upstream, ...]:
        """The upstreams for another configuration: the present ones that it does not change, and new ones."""
        kept = {it.name: it for it in self.upstreams}
        if config.limits.response_body != self._config.limits.response_body:
            kept = {}  # connections have this limit
        return tuple(
            known
            if (known := kept.get(upstream.name)) is not None and known.config == upstream
            else self._made(upstream, config, order)
            for order, upstream in enumerate(config.upstreams)
        )

    def _made(self, upstream: UpstreamConfig, config: ProxyConfig, order: int) -> Upstream:
        made = self._make(upstream, config, order)
        made.published.keep(False)  # until `use`: the configuration may be refused
        return made

    def use(self, upstreams: tuple[Upstream, ...], config: ProxyConfig) -> None:
        """Make the result of `for_config` the present upstreams."""
        replaced = tuple(it for it in self.upstreams if it not in upstreams)
        fresh = tuple(it for it in upstreams if it not in self.upstreams)
        self._replaced += replaced
        self.upstreams, self._config = upstreams, config
        self.attempts.serve(config.upstreams)
        for order, upstream in enumerate(upstreams):
            upstream.facts.place(order)
            upstream.status.drain(upstream.name in self._drained)
        # Last, because it compares and stores lists: whatever fails there, these are the present upstreams.
        for it in replaced:
            it.published.keep(False)
        for it in fresh:
            it.published.keep(True)

    def drain(self, name: str, drained: bool) -> bool:
        """Keep new calls from an upstream, or let them come again. Returns whether there is one with this name.

        That stays so when a reload replaces the upstream.
        """
        found = [upstream for upstream in self.upstreams if upstream.name == name]
        if found:
            (self._drained.add if drained else self._drained.discard)(name)
            logger.info("an operator {} upstream {}", "drains" if drained else "resumes", name)
        for upstream in found:
            upstream.status.drain(drained)
        return bool(found)

    async def keep_lists_of(self, disabled: Iterable[UpstreamConfig]) -> None:
        """Drop the kept lists of all upstreams but the present ones and those that the file switches off."""
        await self._kept.retain({it.name for it in self.upstreams} | {it.name for it in disabled})

    async def close_replaced(self, upstreams: Iterable[Upstream]) -> None:
        """Close upstreams of earlier configurations, which serve no request any more."""
        closing = tuple(upstreams)
        await close_all(closing)
        self._replaced = tuple(it for it in self._replaced if it not in closing)

    @property
    def _all(self) -> tuple[Upstream, ...]:
        return (*self.upstreams, *self._replaced)

    def _login_changed(self, identity: str, name: str) -> None:
        for upstream in self._all:
            if upstream.name == name and identity != GATEWAY:
                upstream.login_changed(identity)

    def end_session(self, session_id: str) -> None:
        """Close what the upstreams keep for an agent's session that has ended."""
        for upstream in self._all:
            upstream.end_session(session_id)

    def set_log_level(self, session_id: str, level: str) -> None:
        """Set the least severe level of log messages that a legacy agent wants, on all upstreams."""
        for upstream in self._all:
            upstream.set_log_level(session_id, level)

    def roots_changed(self, session_id: str) -> None:
        """Notify upstreams with a connection for this session that the legacy agent's roots changed."""
        for upstream in self._all:
            upstream.roots_changed(session_id)

    async def close(self) -> None:
        """Close all upstreams concurrently. Each bounds its time, so a hanging one does not delay the others."""
        await run_all("closing the upstreams", self.attempts.close, lambda: close_all(self._all), self._kept.close)


async def close_all(upstreams: Iterable[Upstream]) -> None:
    """Close upstreams concurrently. A failure is logged."""
    await asyncio.gather(*(run_all(f"closing upstream {it.name}", it.close) for it in upstreams))
