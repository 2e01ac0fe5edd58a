"""What a gateway shows of the configuration in force, and how it takes another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from gateway_core.activity import Activity
from gateway_core.api import CallResult, Principal, UpstreamState, UpstreamView
from gateway_core.catalog import Catalog
from gateway_core.config import Config
from gateway_core.errors import ConfigError, PartlyApplied, PluginError, ReloadRefused, TryLater
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.generations import reloads
from gateway_core.generations.known_agents import KnownAgents
from gateway_core.generations.overview import Overview
from gateway_core.generations.parts import Parts
from gateway_core.generations.reloads import Reloads, Report
from gateway_core.generations.source import Source
from gateway_core.generations.turns import in_seconds
from gateway_core.hooks import Chain
from gateway_core.hooks.pages import PluginPage
from gateway_core.log.wording import count
from gateway_core.mcp import jsonrpc
from gateway_core.pipeline.input_required import InputRequired
from gateway_core.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from gateway_core.control import shapes
    from gateway_core.generations.editing.edits import Edits

MAX_LOGGED: Final = 100
"""Changes, or problems, of one reload that are logged."""


class Reloadable(ABC):
    """The base of `Gateway`."""

    activity: Activity
    """Where it reports what happens."""

    def __init__(self, parts: Parts, reloads: Reloads, source: Source | None) -> None:
        """`source`: where `reload` takes the configuration from; None if it cannot be reloaded."""
        self._reloads = reloads
        self._overview = Overview(parts, reloads, self.activity)
        self.agents: Final = KnownAgents(parts, reloads, self.activity.agents)
        self._source = source

    @cached_property
    def edits(self) -> Edits:
        """Changes of the file. Only operators need them: they are loaded with the endpoints of the control plane."""
        from gateway_core.generations.editing.edits import Edits  # noqa: PLC0415

        return Edits(self._reloads, self._file, self._reported, lambda: self.listens)

    @property
    @abstractmethod
    def takes_changes(self) -> bool:
        """Whether it has started and is not stopping."""

    @property
    @abstractmethod
    def listens(self) -> bool:
        """Whether agents connect over the network."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._reloads.current.config

    @property
    def chain(self) -> Chain:
        """The plugins of the configuration in force."""
        return self._reloads.current.chain

    @property
    def catalog(self) -> Catalog:
        """What agents see now."""
        return self._reloads.current.catalog

    @property
    def pipeline(self) -> Pipeline:
        """Where requests begin now."""
        return self._reloads.current.pipeline

    @property
    def authenticates(self) -> bool:
        """Whether a plugin authenticates agents."""
        return bool(self.chain.authenticators)

    @property
    def pages(self) -> Mapping[str, PluginPage]:
        """The pages of the plugins on the control plane, by path."""
        return self.chain.pages

    async def call_once(self, name: str, arguments: dict[str, Any], profile: str = "") -> CallResult:
        """Call one tool as the operator in a profile, for `rad mcp proxy call` without a running gateway."""
        agent = Agent(Principal("operator@cli", address="cli", profile=profile), "modern", "2026-07-28")
        params = jsonrpc.members(jsonrpc.encode({"name": name, "arguments": arguments}))
        return await self.pipeline.call(Exchange(agent, "tools/call"), params)

    def _lists_changed(self) -> None:
        """Publish the lists that an upstream has now."""
        self.catalog.rebuild()

    def _private_lists_changed(self, principal: str, tell: bool) -> None:
        """Forget what a principal sees. `tell`: notify its agents."""
        self.catalog.drop_view(principal, tell=tell)

    def _upstream_changed(self, upstream: UpstreamView, before: UpstreamState, reason: str | None) -> None:
        """Report to operators and plugins that an upstream has entered another state."""
        self.activity.upstream_changed(upstream.name, upstream.state, before, reason)
        self._reloads.states.changed(upstream)

    @property
    def input_required(self) -> InputRequired:
        """Serves calls with several rounds."""
        return self._reloads.current.input_required

    async def reload(self) -> Report:
        """Put the configuration of the file in force, as far as that needs no restart.

        Raises `TryLater` if other reloads and edits take longer than `CHANGE_WAIT`, `ConfigError` or `PluginError` with
        all problems, or `ReloadRefused`; nothing has changed then. Raises `PartlyApplied` if it is in force, but not
        whole.
        """
        until = in_seconds(reloads.CHANGE_WAIT)
        return await self._reported(self._reloads.reload(self._file(), listening=self.listens, until=until))

    async def reload_after_others(self) -> Report:
        """`reload` for a signal or a change of the file, which get no answer. Raises as `reload`, except `TryLater`.

        The log then names what is in progress. When that ends, the gateway reloads what the file says at that time.
        """
        while True:
            try:
                return await self.reload()
            except TryLater as error:
                logger.warning(
                    "the configuration was not reloaded: {}; the gateway reloads it when that ends", error.in_progress
                )
            await self._reloads.change_ended()

    async def compare(self) -> Report:
        """What `reload` would change. Raises as `reload`, and `TryLater`."""
        return await self._reloads.compare(self._file(), listening=self.listens)

    async def _reported(self, reload: Awaitable[Report]) -> Report:
        """Wait for a reload, and log what came of it."""
        try:
            report = await reload
        except (ConfigError, PluginError) as error:
            problems = error.problems or [str(error)]
            logger.error("the configuration was not reloaded, because of {}", count(len(problems), "problem"))
            for problem in problems[:MAX_LOGGED]:
                logger.error("{}", problem)
            self.activity.reloaded(self._reloads.current.number, 0, len(problems))
            raise
        except PartlyApplied as error:
            logger.error("{}", error, generation=error.generation)
            self.activity.reloaded(error.generation, error.changes, 1)
            raise
        logger.info(
            "the configuration was reloaded: {}", count(len(report.changes), "change"), generation=report.generation
        )
        for change in report.changes[:MAX_LOGGED]:
            (logger.warning if change.restart else logger.info)("{}", change)
        self.activity.reloaded(report.generation, len(report.changes), 0)
        return report

    async def restart(self) -> None:
        """Begin to make room for a new process, which reads the file and takes over sockets and sessions.

        Raises `ConfigError` with all problems of the file, or `ReloadRefused`; nothing has changed then.
        """
        source = self._file()
        await source.rehearse()
        self._file()  # raises if a stop began meanwhile
        source.restart()

    def _file(self) -> Source:
        if self._source is None:
            raise ReloadRefused("this gateway was not started from a file")
        if not self.takes_changes:
            raise ReloadRefused("the gateway is starting or stopping, and takes no other configuration now")
        return self._source

    def plugins(self) -> list[shapes.PluginWithSettings]:
        """The data of `GET /admin/plugins`; see `Overview`."""
        return self._overview.plugins()

    def tools(self, profile: str = "") -> shapes.CatalogEntries:
        """The data of `rad mcp proxy tools`; see `Overview`. Raises `UnknownProfile`."""
        return self._overview.tools(profile)

    def tool(self, name: str, profile: str = "") -> shapes.ToolDefinition:
        """The data of `rad mcp proxy tools NAME`; see `Overview`. Raises `UnknownProfile`."""
        return self._overview.tool(name, profile)

    def upstream_log(self, name: str) -> list[str] | None:
        """The last lines that the process of an upstream wrote to stderr; none if it is disabled.

        None if there is no upstream of this name.
        """
        return self._overview.upstream_log(name)
