"""Enters and exits plugins that are asynchronous context managers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Final

from loguru import logger

from gateway_core.errors import PluginError
from gateway_core.hooks.failures import Own, brief, where
from gateway_core.hooks.implementations import LoadedPlugin

LIFE_TIMEOUT: Final = 10.0
"""Seconds that a plugin may take to start or to stop."""


class Lifecycle:
    """The plugins of one chain. Chains of two configurations may share an instance, which is entered once."""

    def __init__(self, plugins: Sequence[LoadedPlugin]) -> None:
        self._plugins = tuple(
            plugin
            for plugin in plugins
            if hasattr(plugin.instance, "__aenter__") and hasattr(plugin.instance, "__aexit__")
        )
        self._entered: list[LoadedPlugin] = []

    async def enter(self, running: Collection[LoadedPlugin] = ()) -> None:
        """Enter the plugins in order, without the instances in `running`, which another chain has entered.

        Raises `PluginError` naming the plugin that failed, after exiting those that were entered.
        """
        others = _instances(running)
        fresh: list[LoadedPlugin] = []
        try:
            for plugin in self._plugins:
                if id(plugin.instance) not in others:
                    await _enter(plugin)
                    fresh.append(plugin)
                self._entered.append(plugin)
        except BaseException:
            self._entered = fresh
            await self.leave()
            raise

    async def leave(self, kept: Collection[LoadedPlugin] = ()) -> None:
        """Exit the plugins in reverse order, without the instances in `kept`, which another chain uses.

        A plugin that fails to exit is logged; the others still exit.
        """
        used = _instances(kept)
        cancelled: BaseException | None = None
        own = Own()
        while self._entered:
            plugin = self._entered.pop()
            if id(plugin.instance) in used:
                continue
            instance: Any = plugin.instance
            try:
                async with asyncio.timeout(LIFE_TIMEOUT):
                    await instance.__aexit__(None, None, None)
            except BaseException as error:  # noqa: BLE001 - a plugin's bug must not keep the gateway from stopping
                if own.end(error):
                    cancelled = error  # the other plugins still have to exit
                    continue
                logger.bind(plugin=plugin.name).error(
                    "plugin {} did not stop cleanly: {} at {}", plugin.name, type(error).__name__, where(error)
                )
        if cancelled is not None:
            raise cancelled


async def _enter(plugin: LoadedPlugin) -> None:
    instance: Any = plugin.instance
    own = Own()
    try:
        async with asyncio.timeout(LIFE_TIMEOUT) as limit:
            await instance.__aenter__()
    except BaseException as error:
        if own.end(error):
            raise
        late = isinstance(error, TimeoutError) and limit.expired()
        what = f"took longer than {LIFE_TIMEOUT:g} s" if late else brief(error)
        raise PluginError(f"the plugin {plugin.name} could not start: {what}") from error


def _instances(plugins: Collection[LoadedPlugin]) -> frozenset[int]:
    return frozenset(id(plugin.instance) for plugin in plugins)
