"""One configuration in force, and everything that is made from it as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from gateway_core.catalog import Catalog
from gateway_core.catalog.memory import Memory
from gateway_core.concealing import Secret
from gateway_core.config import Config, passes_credentials_on, unprotected
from gateway_core.config.secrets import secrets_of
from gateway_core.errors import ConfigError
from gateway_core.hooks import Chain
from gateway_core.hooks import loader as plugins
from gateway_core.limits.budget import MemoryBudget
from gateway_core.pipeline.input_required import InputRequired
from gateway_core.pipeline.observed import NO_RECORDER, Recorder
from gateway_core.pipeline.pipeline import Pipeline
from gateway_core.pipeline.router import Router
from gateway_core.sealing import Seal
from gateway_core.upstream.upstream import Upstream
from gateway_core.upstream.user_logins.attempts import NO_ATTEMPTS, LoginAttempts


class Generation(msgspec.Struct, frozen=True, eq=False):
    """What judges and serves a request. A request begins in the current generation and ends in the same one."""

    number: int
    """From 1; the log and the control plane name it."""
    config: Config
    chain: Chain
    upstreams: tuple[Upstream, ...]
    """In file order. An upstream that a reload did not change belongs to several generations."""
    seal: Seal
    catalog: Catalog
    input_required: InputRequired
    pipeline: Pipeline

    @property
    def in_flight(self) -> int:
        """Number of requests that it serves."""
        return self.pipeline.in_flight

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets of its configuration, and of the settings of its plugins."""
        return (*secrets_of(self.config.proxy), *self.chain.secrets)


class Common(msgspec.Struct, frozen=True):
    """What all generations share."""

    budget: MemoryBudget
    wait_first_lists: Callable[..., Awaitable[bool]]
    """See `HealthMonitor`."""
    clean: Callable[[bytes], bytes]
    attempts: LoginAttempts = NO_ATTEMPTS
    """The logins of principals in progress."""
    secret: bytes = b""
    """See `Seal`."""
    recorder: Recorder = NO_RECORDER
    """Keeps records of calls for operators."""
    serve: Callable[[Pipeline], None] = lambda pipeline: None
    """Called with each new pipeline."""


def chain_for(before: Generation, config: Config, *, listening: bool) -> Chain:
    """The plugins of a configuration that is to replace `before`, not entered yet.

    `listening`: whether agents connect over the network. Raises `ConfigError`, `PluginError`.
    """
    path = str(config.path) if config.path is not None else "configuration"
    proxy, running = config.proxy, before.chain.plugins
    chain = Chain(plugins.load_plugins(proxy, path, running=running), generation=before.number + 1)
    if reason := passes_credentials_on(proxy, chain.authenticators.headers):
        raise ConfigError([reason])
    if listening and (reason := unprotected(proxy, authenticates=bool(chain.authenticators))):
        raise ConfigError([reason])
    return chain


def generation(
    config: Config,
    chain: Chain,
    upstreams: Sequence[Upstream],
    common: Common,
    *,
    memory: Memory | None = None,
    before: Generation | None = None,
) -> Generation:
    """The generation of `config`, which serves nothing yet.

    `memory`: the names as an earlier process recorded them. `before`: the generation that it is to replace.
    """
    proxy, number = config.proxy, 1 if before is None else before.number + 1
    keys = [key.get_secret_value() for key in proxy.state_keys]
    known = before is not None and proxy.state_keys == before.config.proxy.state_keys
    seal = before.seal if before is not None and known else Seal(keys, common.secret)
    if before is not None:
        disabled = [it.name for it in config.disabled]
        memory = Memory(proxy, disabled=disabled, before=before.catalog.memory)
    catalog = Catalog(
        proxy,
        upstreams,
        chain.resolve_conflict,
        seal,
        memory,
        budget=common.budget,
        before=None if before is None else before.catalog,
    )
    earlier = None if before is None else before.input_required
    input_required = InputRequired(proxy, seal, earlier, common.attempts)
    pipeline = Pipeline(
        proxy,
        catalog,
        Router(chain, input_required),
        chain,
        common.wait_first_lists,
        clean=common.clean,
        generation=number,
        recorder=common.recorder,
    )
    common.serve(pipeline)
    return Generation(number, config, chain, tuple(upstreams), seal, catalog, input_required, pipeline)
