"""The parts of a gateway that outlive a reload, and what each of them does when another generation comes into force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

from gateway_core.concealing import HeldSecrets, Secret
from gateway_core.config import UpstreamConfig
from gateway_core.config.server_tls import ServerCertificate
from gateway_core.control import ControlPlane
from gateway_core.downstream.downstream import Downstream, InForce
from gateway_core.downstream.sessions.store import InMemorySessions
from gateway_core.generations.generation import Common, Generation
from gateway_core.hooks import Chain
from gateway_core.http1.hosts import HostGuard
from gateway_core.log.loop_lag import LoopLag
from gateway_core.mcp.names import LISTS
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.lists.fetched_lists import CAPABILITY, LIST_METHODS
from gateway_core.upstream.pool import UpstreamPool

_KINDS: Final = {LIST_METHODS[kind]: CAPABILITY[kind] for kind in LIST_METHODS}


class Parts(msgspec.Struct, frozen=True):
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

    def steps_to(
        self, after: Generation, before: Generation, certificate: ServerCertificate | None
    ) -> tuple[Callable[[], None], ...]:
        """What puts `after` in force in place of `before`. `certificate`: see `InForce`."""
        proxy, asking = after.config.proxy, after.input_required
        limits = proxy.limits
        now = InForce(
            after.pipeline,
            after.catalog,
            after.chain.authenticators,
            certificate,
            frozenset(before.upstreams).difference(after.upstreams),
            _shown_differently(before, after),
        )
        return (
            lambda: self.pool.use(after.upstreams, proxy),
            after.catalog.memory.begin,
            lambda: self.health.use(after.upstreams, after.chain),
            lambda: self.common.budget.limit_to(limits.memory),
            lambda: self.store.limit_to(limits.sessions, limits.sessions_per_principal, limits.session_idle),
            lambda: asking.parking.limit_to(limits.parked_calls, limits.parked_per_principal, proxy.question_timeout),
            lambda: asking.pages.limit_to(limits.parked_calls),
            lambda: asking.of_plugins.counted_by(self.downstream.gate),
            lambda: self.control.allow(HostGuard(proxy.control.host, proxy.allowed_hosts)),
            lambda: self.downstream.use(proxy, now),
        )


def packages(chain: Chain) -> dict[str, str]:
    """The top-level package of each plugin -> its name."""
    return {type(it.instance).__module__.partition(".")[0]: it.name for it in chain.plugins}


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
